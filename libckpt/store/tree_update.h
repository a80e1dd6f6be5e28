// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <vector>

#include "store/page_map.h"
#include "store/tree.h"

namespace ckpt {

// Where new nodes go.
class NodeSink {
public:
  virtual ~NodeSink() = default;
  // Stores the nodes; their locations in the same order.
  virtual Result<std::vector<Location>> store_nodes(const std::vector<Node>& nodes) = 0;
};

// A tree of that height which is `base` with the changes applied. Writes only nodes that differ from the base's.
Result<Tree> update_tree(NodeSource& source, const Tree& base, const PageMap& changes, unsigned height, NodeSink& sink);

}  // namespace ckpt
