// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A checkpoint for which the guest's file systems are frozen by its agent, its own hooks taking part
// (doc/consistency.md, Application-consistent points).
#pragma once

#include <functional>
#include <string>

#include "daemon/daemon.h"

namespace ckptd {

// Durable when it returns, the guest thawed. Errors: no point was taken, or its guest was not frozen all the time; it
// is thawed, or the thawer's.
ckpt::Result<ckpt::CheckpointInfo> take_consistent_point(Daemon& daemon, const std::string& machine,
                                                         std::uint64_t time_limit_ms,
                                                         const std::function<bool()>& gone);

// How the machine's guest is reached, as it runs now. Errors: not_found, unavailable.
ckpt::Result<FrozenNote> reach_guest(const Daemon& daemon, const std::string& machine);

}  // namespace ckptd
