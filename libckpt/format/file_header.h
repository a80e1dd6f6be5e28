// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How a file of the store begins: bytes[8] magic · u32 version · u32 reserved · 40 bytes of its own · u64 checksum of
// all before.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "ckpt/result.h"

namespace ckpt {

inline constexpr std::size_t file_header_bytes = 64;
inline constexpr std::size_t file_header_body_bytes = 40;

// `body` is filled up with zeroes.
void encode_file_header(Bytes& out, std::string_view magic, std::uint32_t version, ByteView body);

// The body. `what` names the file in errors: corrupt, or version for one that is newer than `version`.
Result<ByteView> decode_file_header(ByteView bytes, std::string_view magic, std::uint32_t version,
                                    const std::string& what);

bool is_magic(ByteView bytes, std::string_view magic);

}  // namespace ckpt
