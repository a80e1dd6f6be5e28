// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "ckpt/env.h"
#include "ckpt/store.h"
#include "format/manifest.h"
#include "store/backend.h"
#include "store/catalog.h"
#include "store/journal_file.h"
#include "store/key_ring.h"
#include "store/live_set.h"
#include "store/segment_store.h"
#include "store/tree.h"

namespace ckpt {

class EpochState;

// What the parts of an open store share. Readers and writers hold it, so it outlives the Store they came from.
// Order of locks: an epoch's, commit_mutex, catalog_mutex, those inside the members.
class StoreCore {
public:
  StoreCore(Env& env, std::unique_ptr<File> lock, std::unique_ptr<Backend> backend, const StoreUuid& uuid,
            const StoreOptions& options);
  ~StoreCore();

  // A chunk whose content is what its name says. `domain`: whose secret to try first.
  Result<Chunk> read_chunk(Location location, std::uint32_t domain);
  Result<Manifest> read_manifest(const CommitRecord& commit);
  std::uint32_t domain_of(std::uint32_t machine) const;

  // With commit_mutex held: the record becomes durable, then known.
  Status write_record(JournalRecord record);
  Status check_writable() const;
  // Space kept back, so that removing can still be written down on a full disk. Best effort: call it again when there
  // may be room.
  void keep_reserve();

  void add_epoch(const std::shared_ptr<EpochState>& epoch);
  std::vector<std::shared_ptr<EpochState>> epochs();

  Env& env;
  std::unique_ptr<File> lock;
  std::unique_ptr<Backend> backend;
  StoreUuid uuid;
  StoreOptions options;
  KeyRing keys;
  SegmentStore segments;
  LiveSet live;

  std::mutex commit_mutex;
  JournalFile journal;  // guarded by commit_mutex

  mutable std::shared_mutex catalog_mutex;
  Catalog catalog;

private:
  Status append_record(const JournalRecord& record);

  bool reserve_ = false;  // it has its full size; guarded by commit_mutex
  std::mutex epochs_mutex_;
  std::vector<std::weak_ptr<EpochState>> epochs_;
};

// Keeps a checkpoint's chunks from being reclaimed.
class CheckpointHold {
public:
  CheckpointHold() = default;
  CheckpointHold(std::shared_ptr<StoreCore> core, const CommitRecord& commit)
      : core_(std::move(core)), commit_(commit) {
    core_->live.acquire(commit_);
  }
  ~CheckpointHold() { release(); }
  CheckpointHold(CheckpointHold&& other) noexcept : core_(std::move(other.core_)), commit_(other.commit_) {}
  CheckpointHold& operator=(CheckpointHold&& other) noexcept {
    release();
    core_ = std::move(other.core_);
    commit_ = other.commit_;
    return *this;
  }

  void release() {
    if (core_) core_->live.release(commit_);
    core_.reset();
  }
  const CommitRecord& commit() const { return commit_; }

private:
  std::shared_ptr<StoreCore> core_;
  CommitRecord commit_;
};

// Nodes out of a store. Thread-safe.
class StoredNodes : public NodeSource {
public:
  StoredNodes(StoreCore& core, std::uint32_t domain) : core_(core), domain_(domain) {}
  Result<Node> load_node(Location location) override;

private:
  StoreCore& core_;
  std::uint32_t domain_;
};

// The same for an epoch: see unreadable().
class BaseNodes : public NodeSource {
public:
  BaseNodes(StoreCore& core, std::uint32_t domain) : stored_(core, domain) {}
  Result<Node> load_node(Location location) override;

private:
  StoredNodes stored_;
};

// Nodes of which the last ones stay at hand: for who looks up page after page. Thread-safe.
class CachedNodes : public NodeSource {
public:
  CachedNodes(StoreCore& core, std::uint32_t domain) : stored_(core, domain), slots_(slot_count) {}
  Result<Node> load_node(Location location) override;

private:
  // 2 MiB of nodes at most: all that map 1 GiB.
  static constexpr std::size_t slot_count = 4096;
  struct Slot {
    Location location;
    Node node;
  };

  StoredNodes stored_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Slot>> slots_;  // a node has one place
};

}  // namespace ckpt
