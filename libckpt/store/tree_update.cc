// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/tree_update.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"

namespace ckpt {

namespace {

struct Change {
  std::uint64_t index = 0;  // of the subtree, in its level
  Location location = 0;
};

// Level by level from the leaves: a node can be written only when its children have locations.
class Updater {
public:
  Updater(NodeSource& source, const Tree& base, const PageMap& changes, NodeSink& sink)
      : base_(source, base), base_tree_(base), changes_(changes), sink_(sink) {
    for (unsigned level = 1; level <= max_tree_height; ++level) {
      std::uint64_t width = pages_below(level - 1);  // in leaves
      for (const auto& [first, end] : changes_.zeroed()) {
        std::uint64_t from = (first + width - 1) / width;
        if (from < end / width) zeroed_[level].push_back({from, end / width});
      }
    }
  }

  Result<std::vector<Change>> leaves(unsigned height) {
    const auto& leaves = changes_.leaves();
    bool new_wrapper = base_tree_.height == 0 && base_tree_.root != 0 && !wholly_zeroed(1, 0);
    if (new_wrapper && !leaves.contains(0)) CKPT_TRY(add_leaf(0, PageMap::Leaf()));
    for (const auto& [index, leaf] : leaves) {
      if (index >= pages_below(height - 1)) break;  // cut off: the object has become smaller
      CKPT_TRY(add_leaf(index, leaf));
    }
    CKPT_ASSIGN(auto changed, finish());
    keep_base(1, height, changed);
    return changed;
  }

  // `below`: what has changed one level further down.
  Result<std::vector<Change>> inner(unsigned level, const std::vector<Change>& below, unsigned height) {
    auto at = below.begin();
    for (std::uint64_t index : touched(level, below, height)) {
      CKPT_ASSIGN(Node node, base_node(level, index));
      for (auto range = first_range(level - 1, index << node_bits);
           range != zeroed_[level - 1].end() && range->first < (index + 1) << node_bits; ++range) {
        std::uint64_t from = std::max(range->first, index << node_bits);
        std::uint64_t to = std::min(range->end, (index + 1) << node_bits);
        for (std::uint64_t child = from; child < to; ++child) node[child & (node_entries - 1)] = 0;
      }
      for (; at != below.end() && at->index >> node_bits == index; ++at) {
        node[at->index & (node_entries - 1)] = at->location;
      }
      CKPT_TRY(add(level, index, node));
    }
    CKPT_ASSIGN(auto changed, finish());
    keep_base(level, height, changed);
    return changed;
  }

  bool wholly_zeroed(unsigned level, std::uint64_t index) const {
    auto range = first_range(level, index);
    return range != zeroed_[level].end() && range->first <= index;
  }

private:
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
  };

  // The first range that ends behind `index`.
  std::vector<Range>::const_iterator first_range(unsigned level, std::uint64_t index) const {
    return std::upper_bound(zeroed_[level].begin(), zeroed_[level].end(), index,
                            [](std::uint64_t wanted, const Range& range) { return wanted < range.end; });
  }

  // A tree that grows gets its old root into the first node above it, also when nothing changed there.
  void keep_base(unsigned level, unsigned height, std::vector<Change>& changed) const {
    if (level != base_tree_.height || level == height || base_tree_.root == 0 || wholly_zeroed(level, 0)) return;
    if (changed.empty() || changed[0].index != 0) changed.insert(changed.begin(), {0, base_tree_.root});
  }

  std::vector<std::uint64_t> touched(unsigned level, const std::vector<Change>& below, unsigned height) const {
    std::vector<std::uint64_t> indexes;
    for (const Change& change : below) indexes.push_back(change.index >> node_bits);
    // A range that ends inside a node changes it; nodes wholly inside are the next level's matter.
    for (const auto& [first, end] : zeroed_[level - 1]) {
      for (std::uint64_t index : {first >> node_bits, (end - 1) >> node_bits}) {
        bool inside = index < pages_below(height - level);
        if (inside && !wholly_zeroed(level, index)) indexes.push_back(index);
      }
    }
    std::sort(indexes.begin(), indexes.end());
    indexes.erase(std::unique(indexes.begin(), indexes.end()), indexes.end());
    return indexes;
  }

  Result<Node> base_node(unsigned level, std::uint64_t index) {
    if (wholly_zeroed(level, index)) return Node{};
    CKPT_ASSIGN(const Node* node, base_.node(level, index));
    return *node;
  }

  Status add_leaf(std::uint64_t index, const PageMap::Leaf& leaf) {
    CKPT_ASSIGN(Node node, base_node(1, index));
    for (std::size_t i = 0; i < node_entries; ++i) {
      if (((leaf.changed >> i) & 1) != 0) node[i] = leaf.locations[i];
    }
    return add(1, index, node);
  }

  Status add(unsigned level, std::uint64_t index, const Node& node) {
    CKPT_ASSIGN(Location before, base_.location(level, index));
    bool zero = std::all_of(node.begin(), node.end(), [](Location location) { return location == 0; });
    if (zero) {
      if (before != 0) done_.push_back({index, 0});
      return {};
    }
    if (before != 0) {
      CKPT_ASSIGN(const Node* old, base_.node(level, index));
      if (*old == node) {
        // As it was; but a zeroed range above must not take it away.
        if (!changes_.zeroed().empty()) done_.push_back({index, before});
        return {};
      }
    }
    done_.push_back({index, 0});
    slots_.push_back(done_.size() - 1);
    nodes_.push_back(node);
    return {};
  }

  Result<std::vector<Change>> finish() {
    if (!nodes_.empty()) {
      CKPT_ASSIGN(auto locations, sink_.store_nodes(nodes_));
      CKPT_CHECK(locations.size() == slots_.size());
      for (std::size_t i = 0; i < slots_.size(); ++i) done_[slots_[i]].location = locations[i];
    }
    nodes_.clear();
    slots_.clear();
    return std::exchange(done_, {});
  }

  PathReader base_;
  Tree base_tree_;
  const PageMap& changes_;
  std::array<std::vector<Range>, max_tree_height + 1> zeroed_;  // by level: subtrees that are zeroed from end to end
  NodeSink& sink_;
  std::vector<Change> done_;
  std::vector<std::size_t> slots_;  // of done_ that wait for a location
  std::vector<Node> nodes_;
};

}  // namespace

Result<Tree> update_tree(NodeSource& source, const Tree& base, const PageMap& changes, unsigned height,
                         NodeSink& sink) {
  Tree from = base;
  while (from.height > height) {
    if (from.root == 0) {
      from.height = height;
      break;
    }
    CKPT_ASSIGN(Node node, source.load_node(from.root));
    from = {node[0], from.height - 1};
  }
  if (height == 0) {
    std::optional<Location> page = changes.find(0);
    return Tree{page ? *page : from.root, 0};
  }
  Updater updater(source, from, changes, sink);
  CKPT_ASSIGN(std::vector<Change> changed, updater.leaves(height));
  for (unsigned level = 2; level <= height; ++level) {
    CKPT_ASSIGN(changed, updater.inner(level, changed, height));
  }
  CKPT_CHECK(changed.size() <= 1);
  if (!changed.empty()) return Tree{changed[0].location, height};
  if (updater.wholly_zeroed(height, 0)) return Tree{0, height};
  return Tree{from.height == height ? from.root : 0, height};
}

}  // namespace ckpt
