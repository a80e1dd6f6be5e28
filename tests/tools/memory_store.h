// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>

#include "ckpt/store.h"

namespace ckpt::tools {

// The store's promises in their plainest form, in memory: what the real one is compared with. Only what writing and
// reading epochs needs; the rest answers `refused`.
std::unique_ptr<Store> make_memory_store();

}  // namespace ckpt::tools
