// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whole files, small enough to be held in memory.
#pragma once

#include <string>
#include <string_view>

#include "ckpt/result.h"

namespace os {

// What a regular file holds; a FIFO or a device in its place holds nobody up, and a symbolic link is not followed.
// Errors: not_found, invalid (no regular file), limit (it is larger than that), io.
ckpt::Result<std::string> read_file(const std::string& path, std::size_t limit_bytes);

enum class Durable { no, yes };

// Makes `path` a file (mode 0600, never through a symbolic link) that holds `bytes`. After an error, no_space among
// them, there is none.
ckpt::Status write_file(const std::string& path, std::string_view bytes, Durable durable = Durable::no);

// As write_file(), but a reader sees the old content or the new, never a part, and after an error the old is there.
ckpt::Status replace_file(const std::string& path, std::string_view bytes, Durable durable = Durable::no);

}  // namespace os
