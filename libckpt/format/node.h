// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A manifest's tree is made of nodes of 64 locations, like a page table. doc/store_format.md, "Manifest".
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "format/location.h"

namespace ckpt {

inline constexpr unsigned node_bits = 6;
inline constexpr std::size_t node_entries = 1u << node_bits;
inline constexpr std::size_t node_bytes = node_entries * sizeof(Location);
inline constexpr unsigned max_tree_height = 6;

using Node = std::array<Location, node_entries>;

// The smallest height whose tree covers that many pages: 64^height of them.
constexpr unsigned tree_height(std::uint64_t pages) {
  unsigned height = 0;
  for (std::uint64_t covered = 1; covered < pages && height < max_tree_height; covered <<= node_bits) ++height;
  return height;
}

inline void encode_node(Bytes& out, const Node& node) {
  ByteWriter writer(out);
  for (Location location : node) writer.u64(location);
}

// `bytes` has node_bytes; its frame's checksum has been checked.
inline Node decode_node(ByteView bytes) {
  Node node;
  for (std::size_t i = 0; i < node_entries; ++i) node[i] = load_le<std::uint64_t>(bytes.data() + i * sizeof(Location));
  return node;
}

}  // namespace ckpt
