// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstddef>
#include <string>

#include "ckpt/result.h"

namespace ckptd {

// When the file is longer than that: its last bytes, as many, go to PATH.old in the place of what is there, and it is
// empty again. Whoever appends to it (O_APPEND) goes on. ok when there is none.
ckpt::Status bound_log(const std::string& path, std::size_t limit_bytes);

}  // namespace ckptd
