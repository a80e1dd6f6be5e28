// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What only a restore's QEMU knows. Each question takes a few seconds at most. unavailable: QEMU does not answer.
#pragma once

#include "common/restore_state.h"

namespace ckptd {

// Whether the guest has ever run: QEMU loads a checkpoint stopped and waits for `cont`.
ckpt::Result<bool> guest_has_run(const RestoreState& state, int stop_fd);

// Whether all memory is there and QEMU needs no agent any more. The agent says so too, unless it is killed just then or
// there is no room for its word.
ckpt::Result<bool> memory_is_local(const RestoreState& state, int stop_fd);

}  // namespace ckptd
