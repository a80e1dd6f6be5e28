// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "common/restore_state.h"

namespace ckptd {

// Starts a block-stream job for each disk that is not local and has none: it copies into the overlay what is still only
// behind it, below the checkpoint filter, so that it is not taken for the guest's writing.
ckpt::Status start_block_streams(RestoreState& state);
// Marks disks local whose job has ended well; true: something changed. An error: a job has ended without success.
ckpt::Result<bool> check_block_streams(RestoreState& state);

}  // namespace ckptd
