// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

namespace ckpt {

// Where a chunk is: segment ID × 2^24 + ordinal. Location 0 is "all zeroes".
using Location = std::uint64_t;

inline constexpr unsigned ordinal_bits = 24;
inline constexpr std::uint32_t max_ordinal = (1u << ordinal_bits) - 1;
inline constexpr std::uint64_t max_segment_id = (1ull << (64 - ordinal_bits)) - 1;

constexpr Location make_location(std::uint64_t segment, std::uint32_t ordinal) {
  return (segment << ordinal_bits) | ordinal;
}
constexpr std::uint64_t segment_of(Location location) { return location >> ordinal_bits; }
constexpr std::uint32_t ordinal_of(Location location) { return static_cast<std::uint32_t>(location & max_ordinal); }

inline std::string segment_name(std::uint64_t segment) {
  char name[24];
  std::snprintf(name, sizeof name, "%016llx.seg", static_cast<unsigned long long>(segment));
  return name;
}

// For people: how a place is named in an error.
inline std::string place_of(Location location) {
  return "segments/" + segment_name(segment_of(location)) + " chunk " + std::to_string(ordinal_of(location));
}

using StoreUuid = std::array<std::uint8_t, 16>;

}  // namespace ckpt
