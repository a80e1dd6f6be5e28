// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "store/core.h"

namespace ckpt {

// Reads the journal and finds the segments.
Status load_store(StoreCore& core);
// For a reader: the same again, for what has been added.
Status refresh_store(StoreCore& core);

}  // namespace ckpt
