// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "base/bytes.h"

namespace ckpt {

// A domain's key. Without it a chunk's name cannot be computed, so not be forged.
inline constexpr std::size_t secret_bytes = 192;
using Secret = std::array<std::uint8_t, secret_bytes>;

// XXH3-128 in canonical (big-endian) byte order, as it is written to disk.
struct ChunkHash {
  std::array<std::uint8_t, 16> bytes{};

  bool operator==(const ChunkHash&) const = default;
  std::uint64_t low() const { return load_le<std::uint64_t>(bytes.data() + 8); }
};

ChunkHash chunk_hash(ByteView data, const Secret& secret);

// XXH3-64. Finds accidents, not forgers.
std::uint64_t checksum(ByteView data, std::uint64_t seed = 0);

// Of two pieces as if they were one.
std::uint64_t checksum(ByteView first, ByteView second, std::uint64_t seed);

bool is_zero(ByteView data);

}  // namespace ckpt
