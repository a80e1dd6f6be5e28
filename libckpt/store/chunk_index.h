// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <vector>

#include "base/hash.h"
#include "format/location.h"

namespace ckpt {

// Hash to location, for finding chunks that the store has already. A cache: bounded, forgets old chunks when full, may
// name places that are gone (the caller looks), and nothing is lost without it. One thread at a time.
class ChunkIndex {
public:
  explicit ChunkIndex(std::uint64_t limit_bytes);

  Location find(const ChunkHash& hash) const;  // 0: not known
  void insert(const ChunkHash& hash, Location location);

  bool full() const { return full_; }  // at its limit, and forgetting

private:
  struct Entry {
    ChunkHash hash;
    Location location = 0;
  };
  static constexpr std::size_t bucket_entries = 8;

  std::size_t bucket_of(const ChunkHash& hash) const { return (hash.low() & (buckets_ - 1)) * bucket_entries; }
  bool place(const Entry& entry);
  void grow();

  std::uint64_t limit_bytes_;
  std::size_t buckets_;
  std::size_t used_ = 0;
  bool full_ = false;
  std::vector<Entry> entries_;
};

}  // namespace ckpt
