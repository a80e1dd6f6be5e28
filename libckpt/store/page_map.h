// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "format/node.h"

namespace ckpt {

// What an open epoch has changed in one object: page to location. Costs about 500 bytes for each 64 pages in which
// something has changed, however often; a zeroed range costs the same whatever its length.
class PageMap {
 public:
  struct Leaf {
    std::uint64_t changed = 0;  // one bit for each page
    Node locations{};
  };

  void set(std::uint64_t page, Location location) {
    std::unique_ptr<Leaf>& leaf = leaves_[page >> node_bits];
    if (!leaf) leaf = std::make_unique<Leaf>();
    leaf->changed |= std::uint64_t{1} << (page & (node_entries - 1));
    leaf->locations[page & (node_entries - 1)] = location;
  }

  // Pages [first, end) read as zeroes.
  void zero(std::uint64_t first, std::uint64_t end);

  // Empty: not changed.
  std::optional<Location> find(std::uint64_t page) const;

  const Leaf* leaf(std::uint64_t index) const {
    auto at = leaves_.find(index);
    return at == leaves_.end() ? nullptr : at->second.get();
  }
  // Leaves with single changes, sorted.
  std::vector<std::uint64_t> leaf_indexes() const;
  const std::unordered_map<std::uint64_t, std::unique_ptr<Leaf>>& leaves() const { return leaves_; }

  bool leaf_is_zeroed(std::uint64_t index) const;
  // Ranges of whole leaves that were zeroed before the single changes in them: first to end, not touching each other.
  const std::map<std::uint64_t, std::uint64_t>& zeroed() const { return zeroed_; }

 private:
  void zero_leaves(std::uint64_t first, std::uint64_t end);

  std::unordered_map<std::uint64_t, std::unique_ptr<Leaf>> leaves_;
  std::map<std::uint64_t, std::uint64_t> zeroed_;
};

}  // namespace ckpt
