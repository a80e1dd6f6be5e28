// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/chunk_index.h"

namespace ckpt {

namespace {
constexpr std::size_t first_buckets = 256;
}

ChunkIndex::ChunkIndex(std::uint64_t limit_bytes)
    : limit_bytes_(limit_bytes), buckets_(first_buckets), entries_(first_buckets * bucket_entries) {}

Location ChunkIndex::find(const ChunkHash& hash) const {
  std::size_t bucket = bucket_of(hash);
  for (std::size_t i = bucket; i < bucket + bucket_entries; ++i) {
    if (entries_[i].location != 0 && entries_[i].hash == hash) return entries_[i].location;
  }
  return 0;
}

void ChunkIndex::insert(const ChunkHash& hash, Location location) {
  // Half full at most while there is room: buckets then rarely overflow.
  if (used_ * 2 > entries_.size()) grow();
  if (place({hash, location})) ++used_;
}

// In a full bucket the oldest chunk gives way. True when one more place is used than before.
bool ChunkIndex::place(const Entry& entry) {
  std::size_t bucket = bucket_of(entry.hash);
  std::size_t victim = bucket;
  for (std::size_t i = bucket; i < bucket + bucket_entries; ++i) {
    if (entries_[i].location != 0 && entries_[i].hash == entry.hash) {
      entries_[i] = entry;
      return false;
    }
    if (entries_[i].location < entries_[victim].location) victim = i;
  }
  bool was_free = entries_[victim].location == 0;
  if (was_free || entries_[victim].location < entry.location) entries_[victim] = entry;
  return was_free;
}

void ChunkIndex::grow() {
  if (full_ || entries_.size() * 2 * sizeof(Entry) > limit_bytes_) {
    full_ = true;
    return;
  }
  std::vector<Entry> old(entries_.size() * 2);
  old.swap(entries_);
  buckets_ *= 2;
  used_ = 0;
  for (const Entry& entry : old) {
    if (entry.location != 0 && place(entry)) ++used_;
  }
}

}  // namespace ckpt
