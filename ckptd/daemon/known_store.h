// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which store was served at a path. When its file system is not mounted there is an empty directory in its place, and
// a new store made there would hide every checkpoint and fill the wrong disk. So ckptd writes down, elsewhere, which
// one it serves, and serves no other unless told to.
#pragma once

#include <memory>
#include <string>

#include "ckpt/store.h"

namespace ckptd {

// Opens the store at `path`; makes it when none was served there before. Durable in `state_dir` before it returns.
// `replace`: whatever is there is right, and a store is made when nothing is. Errors: not_found (the known one is not
// there), refused (another one is), and those of Store::open.
ckpt::Result<std::unique_ptr<ckpt::Store>> open_known_store(const std::string& state_dir, const std::string& path,
                                                            bool replace);

}  // namespace ckptd
