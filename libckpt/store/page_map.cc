// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/page_map.h"

#include <algorithm>

namespace ckpt {

void PageMap::zero(std::uint64_t first, std::uint64_t end) {
  std::uint64_t first_leaf = (first + node_entries - 1) >> node_bits;
  std::uint64_t end_leaf = end >> node_bits;
  if (first_leaf >= end_leaf) {
    for (std::uint64_t page = first; page < end; ++page) set(page, 0);
    return;
  }
  for (std::uint64_t page = first; page < first_leaf << node_bits; ++page) set(page, 0);
  zero_leaves(first_leaf, end_leaf);
  for (std::uint64_t page = end_leaf << node_bits; page < end; ++page) set(page, 0);
}

void PageMap::zero_leaves(std::uint64_t first, std::uint64_t end) {
  recent_ = nullptr;
  leaves_.erase(leaves_.lower_bound(first), leaves_.lower_bound(end));
  auto at = zeroed_.upper_bound(first);
  if (at != zeroed_.begin() && std::prev(at)->second >= first) --at;
  while (at != zeroed_.end() && at->first <= end) {
    first = std::min(first, at->first);
    end = std::max(end, at->second);
    at = zeroed_.erase(at);
  }
  zeroed_[first] = end;
}

std::optional<Location> PageMap::find(std::uint64_t page) const {
  auto leaf = leaves_.find(page >> node_bits);
  std::uint64_t slot = page & (node_entries - 1);
  if (leaf != leaves_.end() && ((leaf->second.changed >> slot) & 1) != 0) return leaf->second.locations[slot];
  if (leaf_is_zeroed(page >> node_bits)) return Location{0};
  return std::nullopt;
}

bool PageMap::leaf_is_zeroed(std::uint64_t index) const {
  auto at = zeroed_.upper_bound(index);
  return at != zeroed_.begin() && std::prev(at)->second > index;
}

}  // namespace ckpt
