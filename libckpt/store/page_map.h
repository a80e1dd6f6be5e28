// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "format/node.h"

namespace ckpt {

// What an open epoch has changed in one object: page to location. Costs about 600 bytes for each 64 pages in which
// something has changed, however often; a zeroed range costs the same whatever its length. See page_spill.h.
class PageMap {
public:
  struct Leaf {
    std::uint64_t changed = 0;  // one bit for each page
    Node locations{};
  };

  void set(std::uint64_t page, Location location) {
    std::uint64_t index = page >> node_bits;
    // Pages come in order, mostly.
    if (recent_ == nullptr || recent_index_ != index) {
      recent_ = &leaves_[index];
      recent_index_ = index;
    }
    recent_->changed |= std::uint64_t{1} << (page & (node_entries - 1));
    recent_->locations[page & (node_entries - 1)] = location;
  }

  // Pages [first, end) read as zeroes.
  void zero(std::uint64_t first, std::uint64_t end);
  // The same for the whole leaves [first, end). What it costs does not depend on how many they are.
  void zero_leaves(std::uint64_t first, std::uint64_t end);

  // Empty: not changed.
  std::optional<Location> find(std::uint64_t page) const;

  // Those with single changes, by index.
  const std::map<std::uint64_t, Leaf>& leaves() const { return leaves_; }
  bool leaf_is_zeroed(std::uint64_t index) const;
  // Ranges of whole leaves that were zeroed before the single changes in them: first to end, not touching each other.
  const std::map<std::uint64_t, std::uint64_t>& zeroed() const { return zeroed_; }

  bool empty() const { return leaves_.empty() && zeroed_.empty(); }
  std::uint64_t memory_bytes() const { return leaves_.size() * leaf_cost + zeroed_.size() * range_cost; }

private:
  static constexpr std::uint64_t tree_node_cost = 48;  // of std::map, and of the allocation
  static constexpr std::uint64_t leaf_cost = sizeof(Leaf) + 8 + tree_node_cost;
  static constexpr std::uint64_t range_cost = 16 + tree_node_cost;

  std::map<std::uint64_t, Leaf> leaves_;
  std::map<std::uint64_t, std::uint64_t> zeroed_;
  Leaf* recent_ = nullptr;
  std::uint64_t recent_index_ = 0;
};

}  // namespace ckpt
