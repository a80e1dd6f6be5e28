// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <atomic>
#include <map>
#include <set>
#include <unordered_set>

#include "store/core.h"
#include "store/reference_counts.h"

namespace ckpt {

// Gives back the space of chunks that no kept checkpoint, open epoch or reader reaches. doc/store_format.md,
// "Reclaiming". Thread-safe; commits and removals go on meanwhile.
class Reclaimer {
public:
  explicit Reclaimer(StoreCore& core) : core_(core) {}

  // One bounded step; the bytes given back.
  Result<std::uint64_t> collect();
  // 0: not known yet.
  std::uint64_t live_bytes() const { return live_bytes_.load(); }
  // Nodes and manifests that could not be read.
  std::vector<Damage> uncounted() const;

private:
  struct Usage {
    std::uint64_t live_bytes = 0;
    std::uint64_t total_bytes = 0;
  };

  // A node or manifest whose entries are unknown, and whose checkpoint met it first.
  struct Unread {
    CommitRecord commit;
    unsigned level = 0;  // 0: the manifest
    Error error;
  };

  void bring_up_to_date();
  void count_all();
  void count_changes();
  void add_checkpoint(const CommitRecord& commit);
  void drop_checkpoint(const CommitRecord& commit);
  void add(Location location, unsigned level, StoredNodes& nodes, const CommitRecord& commit);
  void drop(Location location, unsigned level, StoredNodes& nodes);
  void add_entries(Location location, unsigned level, StoredNodes& nodes, const CommitRecord& commit);
  void add_objects(const CommitRecord& commit);
  void read_again();
  void note_unread(Location location, Unread unread);
  bool forget_unread(Location location);
  bool live(Location location) const { return location < unread_end_ || counts_.live(location); }
  bool any_live(std::uint64_t segment) const {
    return make_location(segment, 0) < unread_end_ || counts_.any_live(segment);
  }
  void measure();
  std::vector<std::uint64_t> choose(std::size_t max_dead) const;
  Result<std::uint64_t> reclaim(const std::vector<std::uint64_t>& segments);
  Result<std::uint64_t> remove_segment(std::uint64_t segment, std::uint64_t bytes);
  Result<std::uint64_t> rewrite_segment(std::uint64_t segment, std::uint64_t bytes,
                                        const std::unordered_set<Location>& held);
  Result<std::uint64_t> shorten_journal();

  StoreCore& core_;
  std::mutex mutex_;
  bool counted_ = false;
  ReferenceCounts counts_;
  mutable std::mutex unread_mutex_;  // guards unread_ for uncounted()
  std::map<Location, Unread> unread_;
  Location read_again_ = 0;  // the last that was
  Location unread_end_ = 0;  // the last of them: what it refers to was there before it, so lies below
  std::map<std::uint64_t, Usage> usage_;
  std::set<std::uint64_t> damaged_;  // could not be rewritten; verify says why
  std::atomic<std::uint64_t> live_bytes_{0};
};

}  // namespace ckpt
