// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Who goes first on a busy host. All of it is a wish: where the system refuses, things are as they were.
#pragma once

namespace agent {

// For a thread that others wait for: it runs as soon as it is woken, for a short time.
void hurry_this_thread();
// For a thread that nobody waits for: it leaves the CPUs to who needs them, the guest's vCPUs too, or takes its share
// again.
void put_this_thread_last(bool last);
// Its short sleeps are as short as they say.
void sharpen_sleeps_of_this_thread();

}  // namespace agent
