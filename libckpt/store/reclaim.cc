// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which chunks are alive. What is done about the others is in reclaim_step.cc.
#include "store/reclaim.h"

namespace ckpt {

void Reclaimer::bring_up_to_date() {
  if (counted_) count_changes();
  if (!counted_) count_all();  // also when there were too many changes to be noted
}

void Reclaimer::count_all() {
  counts_.clear();
  usage_.clear();
  {
    std::lock_guard lock(unread_mutex_);
    unread_.clear();
    unread_end_ = 0;
  }
  std::vector<CommitRecord> kept;
  {
    std::lock_guard commit(core_.commit_mutex);
    kept = core_.live.start_noting();
    for (const auto& [id, machine] : core_.catalog.machines()) {
      for (const auto& [number, entry] : machine.checkpoints) kept.push_back(entry.commit);
    }
  }
  for (const CommitRecord& commit : kept) add_checkpoint(commit);
  count_changes();
}

void Reclaimer::count_changes() {
  std::vector<LiveSet::Operation> operations;
  counted_ = core_.live.take(operations);
  if (!counted_) return;
  for (const LiveSet::Operation& operation : operations) {
    operation.added ? add_checkpoint(operation.commit) : drop_checkpoint(operation.commit);
  }
}

void Reclaimer::add_checkpoint(const CommitRecord& commit) {
  StoredNodes nodes(core_, core_.domain_of(commit.machine));
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  for (std::uint64_t i = 0; i < chunks; ++i) add(commit.manifest + i, 0, nodes, commit);
  auto manifest = core_.read_manifest(commit);
  if (!manifest) return note_unread(commit.manifest, commit, manifest.error());
  for (const ManifestObject& entry : manifest->objects) add(entry.root, entry.height, nodes, commit);
}

void Reclaimer::drop_checkpoint(const CommitRecord& commit) {
  StoredNodes nodes(core_, core_.domain_of(commit.machine));
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  for (std::uint64_t i = 0; i < chunks; ++i) drop(commit.manifest + i, 0, nodes);
  if (forget_unread(commit.manifest)) return;
  auto manifest = core_.read_manifest(commit);
  // What could be read once and cannot be now stays counted until the store is opened again.
  for (std::size_t i = 0; manifest && i < manifest->objects.size(); ++i) {
    drop(manifest->objects[i].root, manifest->objects[i].height, nodes);
  }
}

// A node's entries count once, however many refer to the node: so what checkpoints share is passed over.
void Reclaimer::add(Location location, unsigned level, StoredNodes& nodes, const CommitRecord& commit) {
  if (location == 0 || !counts_.add(location) || level == 0) return;
  auto node = nodes.load_node(location);
  if (!node) return note_unread(location, commit, node.error());
  for (Location child : *node) add(child, level - 1, nodes, commit);
}

void Reclaimer::drop(Location location, unsigned level, StoredNodes& nodes) {
  if (location == 0 || !counts_.drop(location) || level == 0 || forget_unread(location)) return;
  auto node = nodes.load_node(location);
  for (std::size_t i = 0; node && i < node_entries; ++i) drop((*node)[i], level - 1, nodes);
}

void Reclaimer::note_unread(Location location, const CommitRecord& commit, const Error& error) {
  std::lock_guard lock(unread_mutex_);
  unread_.emplace(location, Unread{{commit.machine, commit.number}, error.message()});
  unread_end_ = unread_.rbegin()->first;
  usage_.clear();
}

// True when it was one, so that nothing below it has been counted.
bool Reclaimer::forget_unread(Location location) {
  std::lock_guard lock(unread_mutex_);
  if (unread_.erase(location) == 0) return false;
  unread_end_ = unread_.empty() ? 0 : unread_.rbegin()->first;
  usage_.clear();
  return true;
}

std::vector<Damage> Reclaimer::uncounted() const {
  std::vector<Damage> damages;
  std::shared_lock guard(core_.catalog_mutex);
  std::lock_guard lock(unread_mutex_);
  for (const auto& [location, unread] : unread_) {
    Damage& damage = damages.emplace_back(Damage{place_of(location), unread.reason, {}});
    const CheckpointEntry* entry = core_.catalog.find(unread.checkpoint);
    if (entry != nullptr) damage.checkpoints.push_back(core_.catalog.info(*entry).id);
  }
  return damages;
}

}  // namespace ckpt
