// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Copy-on-write radix trees of locations: reading and comparing. Writing is in tree_update.h.
#pragma once

#include <functional>

#include "ckpt/result.h"
#include "format/node.h"

namespace ckpt {

struct Tree {
  Location root = 0;
  unsigned height = 0;

  bool operator==(const Tree&) const = default;
};

class NodeSource {
public:
  virtual ~NodeSource() = default;
  // Not for location 0. Errors: corrupt.
  virtual Result<Node> load_node(Location location) = 0;
};

constexpr std::uint64_t pages_below(unsigned height) { return std::uint64_t{1} << (node_bits * height); }

// The location of a page; 0 beyond the end.
Result<Location> find_page(NodeSource& source, const Tree& tree, std::uint64_t page);

// A subtree as a node of a (possibly higher) tree would hold it at `level`: a tree that is lower sits under its first
// entries.
class TreeView {
public:
  TreeView(NodeSource& source, const Tree& tree) : source_(&source), tree_(tree) {}

  const Tree& tree() const { return tree_; }
  NodeSource& source() const { return *source_; }
  bool empty() const { return tree_.root == 0; }
  // The 64 subtrees one level below `level`, which is above 0.
  Status children(unsigned level, std::array<TreeView, node_entries>& out) const;
  static std::array<TreeView, node_entries> empty_children(NodeSource& source);

private:
  NodeSource* source_;
  Tree tree_;
};

// Calls visit(page, location) for each page of [first, end) that is not zero, in order, until it returns false.
using VisitPage = std::function<bool(std::uint64_t page, Location location)>;
Status each_page(NodeSource& source, const Tree& tree, std::uint64_t first, std::uint64_t end, const VisitPage& visit);

// Calls visit(page) for each page whose location differs, in order, skipping what the trees share.
Status each_difference(NodeSource& source, const Tree& tree, NodeSource& other_source, const Tree& other,
                       const std::function<void(std::uint64_t page)>& visit);

// The nodes on the way to a place, kept from one look-up to the next.
class PathReader {
public:
  PathReader(NodeSource& source, const Tree& tree) : source_(source), tree_(tree) {}

  // The node that covers the pages [index × 64^level, …); zeroes where the tree has none. level ≥ 1.
  Result<const Node*> node(unsigned level, std::uint64_t index);
  // What the level above says of it.
  Result<Location> location(unsigned level, std::uint64_t index);

private:
  struct Step {
    bool valid = false;
    std::uint64_t index = 0;
    Node node{};
  };
  NodeSource& source_;
  Tree tree_;
  std::array<Step, max_tree_height + 1> steps_{};
};

}  // namespace ckpt
