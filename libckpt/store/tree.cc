// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/tree.h"

#include <algorithm>
#include <optional>

#include "base/check.h"

namespace ckpt {

Result<Location> find_page(NodeSource& source, const Tree& tree, std::uint64_t page) {
  if (page >= pages_below(tree.height)) return Location{0};
  Location location = tree.root;
  for (unsigned level = tree.height; level > 0 && location != 0; --level) {
    CKPT_ASSIGN(Node node, source.load_node(location));
    location = node[(page >> (node_bits * (level - 1))) & (node_entries - 1)];
  }
  return location;
}

std::array<TreeView, node_entries> TreeView::empty_children(NodeSource& source) {
  TreeView none(source, {});
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<TreeView, node_entries>{((void)I, none)...};
  }
  (std::make_index_sequence<node_entries>());
}

Status TreeView::children(unsigned level, std::array<TreeView, node_entries>& out) const {
  CKPT_CHECK(level > 0);
  out.fill(TreeView(*source_, {0, 0}));
  if (empty()) return {};
  if (tree_.height < level) {
    out[0] = *this;
    return {};
  }
  CKPT_ASSIGN(Node node, source_->load_node(tree_.root));
  for (std::size_t i = 0; i < node_entries; ++i) out[i].tree_ = {node[i], node[i] == 0 ? 0 : level - 1};
  return {};
}

namespace {

struct Walk {
  NodeSource& source;
  std::uint64_t first;
  std::uint64_t end;
  const VisitPage& visit;
  bool stopped = false;

  Status descend(Location location, unsigned level, std::uint64_t base) {
    if (level == 0) {
      stopped = !visit(base, location);
      return {};
    }
    CKPT_ASSIGN(Node node, source.load_node(location));
    std::uint64_t width = pages_below(level - 1);
    std::uint64_t from = first > base ? (first - base) / width : 0;
    for (std::uint64_t i = from; i < node_entries && !stopped; ++i) {
      std::uint64_t start = base + i * width;
      if (start >= end) break;
      if (node[i] != 0) CKPT_TRY(descend(node[i], level - 1, start));
    }
    return {};
  }
};

Status compare(const TreeView& one, const TreeView& other, unsigned level, std::uint64_t base,
               const std::function<void(std::uint64_t)>& visit) {
  if (one.tree() == other.tree()) return {};
  if (level == 0) {
    visit(base);
    return {};
  }
  std::array<TreeView, node_entries> ones = {TreeView::empty_children(one.source())};
  std::array<TreeView, node_entries> others = {TreeView::empty_children(other.source())};
  CKPT_TRY(one.children(level, ones));
  CKPT_TRY(other.children(level, others));
  for (std::size_t i = 0; i < node_entries; ++i) {
    CKPT_TRY(compare(ones[i], others[i], level - 1, base + i * pages_below(level - 1), visit));
  }
  return {};
}

}  // namespace

Status each_page(NodeSource& source, const Tree& tree, std::uint64_t first, std::uint64_t end, const VisitPage& visit) {
  if (tree.root == 0 || first >= std::min(end, pages_below(tree.height))) return {};
  Walk walk{source, first, end, visit};
  return walk.descend(tree.root, tree.height, 0);
}

Status each_difference(NodeSource& source, const Tree& tree, NodeSource& other_source, const Tree& other,
                       const std::function<void(std::uint64_t page)>& visit) {
  // An empty tree is the same at every height.
  Tree mine = tree.root == 0 ? Tree{} : tree;
  Tree theirs = other.root == 0 ? Tree{} : other;
  return compare(TreeView(source, mine), TreeView(other_source, theirs), std::max(mine.height, theirs.height), 0,
                 visit);
}

Result<const Node*> PathReader::node(unsigned level, std::uint64_t index) {
  CKPT_CHECK(level > 0 && level <= max_tree_height);
  Step& step = steps_[level];
  if (step.valid && step.index == index) return static_cast<const Node*>(&step.node);
  step.valid = false;
  Node node{};
  if (level > tree_.height) {
    // A wrapper around the whole tree: that is what it looks like in a higher one.
    if (index == 0) {
      CKPT_ASSIGN(node[0], location(level - 1, 0));
    }
  } else {
    CKPT_ASSIGN(Location at, location(level, index));
    if (at != 0) {
      CKPT_ASSIGN(node, source_.load_node(at));
    }
  }
  step = {true, index, node};
  return static_cast<const Node*>(&step.node);
}

Result<Location> PathReader::location(unsigned level, std::uint64_t index) {
  if (level >= tree_.height) {
    // Wrappers have no place of their own.
    bool is_root = level == tree_.height && index == 0;
    return is_root ? tree_.root : Location{0};
  }
  CKPT_ASSIGN(const Node* above, node(level + 1, index >> node_bits));
  return (*above)[index & (node_entries - 1)];
}

}  // namespace ckpt
