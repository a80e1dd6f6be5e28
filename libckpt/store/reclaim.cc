// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which chunks are alive. What is done about the others is in reclaim_step.cc.
#include "store/reclaim.h"

namespace ckpt {

namespace {

// A disk may be slow to say that it cannot.
constexpr std::size_t max_read_again = 16;

}  // namespace

void Reclaimer::bring_up_to_date() {
  if (counted_) {
    read_again();
    count_changes();
  }
  if (!counted_) count_all();  // also when there were too many changes to be noted
}

// What the disk did not read it may read now; damage stays what it is.
void Reclaimer::read_again() {
  std::map<Location, Unread> again;
  {
    std::lock_guard lock(unread_mutex_);
    auto at = unread_.upper_bound(read_again_);
    for (; at != unread_.end() && again.size() < max_read_again; ++at) {
      if (at->second.error.code != Code::corrupt) again.insert(*at);
    }
    read_again_ = at == unread_.end() ? 0 : again.rbegin()->first;
  }
  for (const auto& [location, unread] : again) {
    StoredNodes nodes(core_, core_.domain_of(unread.commit.machine));
    bool readable = unread.level == 0 ? core_.read_manifest(unread.commit).ok() : nodes.load_node(location).ok();
    if (!readable) continue;
    forget_unread(location);
    unread.level == 0 ? add_objects(unread.commit) : add_entries(location, unread.level, nodes, unread.commit);
  }
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
  add_objects(commit);
}

void Reclaimer::add_objects(const CommitRecord& commit) {
  StoredNodes nodes(core_, core_.domain_of(commit.machine));
  auto manifest = core_.read_manifest(commit);
  if (!manifest) return note_unread(commit.manifest, {commit, 0, manifest.error()});
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
  add_entries(location, level, nodes, commit);
}

void Reclaimer::add_entries(Location location, unsigned level, StoredNodes& nodes, const CommitRecord& commit) {
  auto node = nodes.load_node(location);
  if (!node) return note_unread(location, {commit, level, node.error()});
  for (Location child : *node) add(child, level - 1, nodes, commit);
}

void Reclaimer::drop(Location location, unsigned level, StoredNodes& nodes) {
  if (location == 0 || !counts_.drop(location) || level == 0 || forget_unread(location)) return;
  auto node = nodes.load_node(location);
  for (std::size_t i = 0; node && i < node_entries; ++i) drop((*node)[i], level - 1, nodes);
}

void Reclaimer::note_unread(Location location, Unread unread) {
  std::lock_guard lock(unread_mutex_);
  unread_.emplace(location, std::move(unread));
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
    Damage& damage = damages.emplace_back(Damage{place_of(location), unread.error.message(), {}, location});
    const CheckpointEntry* entry = core_.catalog.find(CheckpointKey{unread.commit.machine, unread.commit.number});
    if (entry != nullptr) damage.checkpoints.push_back(core_.catalog.info(*entry).id);
  }
  return damages;
}

}  // namespace ckpt
