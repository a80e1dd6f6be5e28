// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <set>
#include <span>

#include "store/core.h"
#include "store/verify.h"

namespace ckpt {

// Whether damage that has been found is reached from somewhere. Reads nodes and no pages: what is not known to be
// damaged does not count, but for nodes that cannot be read now. A damaged chunk stands for its frame. One thread.
class DamageReach {
public:
  DamageReach(StoreCore& core, std::span<const Damage> damages);

  bool from(Location location);
  bool from(const CommitRecord& commit);

private:
  bool from_tree(Location location, unsigned level, StoredNodes& nodes);

  StoreCore& core_;
  std::map<std::uint64_t, std::set<std::size_t>> frames_;  // by segment; none: all of them
  SeenChunks clear_;                                       // nodes from which nothing is reached
};

}  // namespace ckpt
