// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "common/restore_state.h"

namespace ckptd {

// Each asks the restore's QEMU, takes a few seconds at most, and returns the disks as they are then. unavailable: QEMU
// does not answer.
//
// Starts a block-stream job for each disk that is not local and has none: it copies into the overlay what is still only
// behind it, below the checkpoint filter, so that it is not taken for the guest's writing.
ckpt::Result<std::vector<RestoredDisk>> start_block_streams(const RestoreState& state, int stop_fd);
// Marks disks local whose job has ended well. cancelled: one has ended without success.
ckpt::Result<std::vector<RestoredDisk>> check_block_streams(const RestoreState& state, int stop_fd);

}  // namespace ckptd
