// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <string_view>

#include "ckpt/result.h"

namespace ckptd {

// Makes `path` a file (mode 0600, never through a symbolic link) that holds `bytes`; synced when `durable`. After an
// error, no_space among them, there is none.
ckpt::Status write_file(const std::string& path, std::string_view bytes, bool durable = false);

}  // namespace ckptd
