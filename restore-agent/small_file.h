// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "base/bytes.h"
#include "ckpt/result.h"

namespace agent {

// limit: the file is larger than that.
ckpt::Result<ckpt::Bytes> read_small_file(const std::string& path, std::size_t limit_bytes);

// A reader sees the old content or the new, never a part. Not synced: these files may be lost, not torn.
ckpt::Status replace_small_file(const std::string& path, ckpt::ByteView content);

}  // namespace agent
