// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "store/catalog.h"

namespace ckpt {

// Which checkpoints must stay readable, and what reclaiming has to hear of: a removed checkpoint that somebody still
// reads, or builds upon, counts as kept until they let go. Thread-safe.
class LiveSet {
public:
  struct Operation {
    bool added = false;
    CommitRecord commit;
  };

  void acquire(const CommitRecord& commit) {
    std::lock_guard lock(mutex_);
    ++holds_[key_of(commit)].count;
  }
  void release(const CommitRecord& commit) {
    std::lock_guard lock(mutex_);
    auto at = holds_.find(key_of(commit));
    if (--at->second.count != 0) return;
    if (at->second.removed) note({false, commit});
    holds_.erase(at);
  }
  void committed(const CommitRecord& commit) {
    std::lock_guard lock(mutex_);
    note({true, commit});
  }
  void removed(const CommitRecord& commit) {
    std::lock_guard lock(mutex_);
    auto at = holds_.find(key_of(commit));
    if (at == holds_.end()) return note({false, commit});
    at->second.removed = true;
    at->second.commit = commit;
  }

  // From now on operations are noted. Returns the removed checkpoints that are still held. The caller sees to it that
  // nothing is committed or removed between this and its look at the catalog.
  std::vector<CommitRecord> start_noting() {
    std::lock_guard lock(mutex_);
    noting_ = true;
    operations_.clear();
    std::vector<CommitRecord> held;
    for (const auto& [key, hold] : holds_) {
      if (hold.removed) held.push_back(hold.commit);
    }
    return held;
  }
  // False: too many to note came together; reclaiming must start anew.
  bool take(std::vector<Operation>& operations) {
    std::lock_guard lock(mutex_);
    operations = std::move(operations_);
    operations_.clear();
    return noting_;
  }

private:
  struct Hold {
    std::uint64_t count = 0;
    bool removed = false;
    CommitRecord commit;
  };
  static constexpr std::size_t max_operations = 200'000;

  static CheckpointKey key_of(const CommitRecord& commit) { return {commit.machine, commit.number}; }
  void note(Operation operation) {
    if (noting_) operations_.push_back(std::move(operation));
    if (operations_.size() <= max_operations) return;
    noting_ = false;
    operations_ = {};
  }

  std::mutex mutex_;
  std::map<CheckpointKey, Hold> holds_;
  bool noting_ = false;
  std::vector<Operation> operations_;
};

}  // namespace ckpt
