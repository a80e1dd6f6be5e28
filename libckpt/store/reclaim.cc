// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which chunks are alive. What is done about the others is in reclaim_step.cc.
#include "store/reclaim.h"

namespace ckpt {

Status Reclaimer::bring_up_to_date() {
  Status status = counted_ ? count_changes() : count_all();
  if (status && !counted_) status = count_all();  // too many changes to have been noted
  if (!status) {
    // Half-done counts would free what is needed. They are made anew next time.
    counted_ = false;
    counts_.clear();
  }
  return status;
}

Status Reclaimer::count_all() {
  counts_.clear();
  usage_.clear();
  std::vector<CommitRecord> kept;
  {
    std::lock_guard commit(core_.commit_mutex);
    kept = core_.live.start_noting();
    for (const auto& [id, machine] : core_.catalog.machines()) {
      for (const auto& [number, entry] : machine.checkpoints) kept.push_back(entry.commit);
    }
  }
  for (const CommitRecord& commit : kept) CKPT_TRY(add_checkpoint(commit));
  counted_ = true;
  return count_changes();
}

Status Reclaimer::count_changes() {
  std::vector<LiveSet::Operation> operations;
  counted_ = core_.live.take(operations);
  if (!counted_) return {};
  for (const LiveSet::Operation& operation : operations) {
    CKPT_TRY(operation.added ? add_checkpoint(operation.commit) : drop_checkpoint(operation.commit));
  }
  return {};
}

Status Reclaimer::add_checkpoint(const CommitRecord& commit) {
  CKPT_ASSIGN(Manifest manifest, core_.read_manifest(commit));
  StoredNodes nodes(core_, core_.domain_of(commit.machine));
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  for (std::uint64_t i = 0; i < chunks; ++i) CKPT_TRY(add(commit.manifest + i, 0, nodes));
  for (const ManifestObject& entry : manifest.objects) CKPT_TRY(add(entry.root, entry.height, nodes));
  return {};
}

Status Reclaimer::drop_checkpoint(const CommitRecord& commit) {
  CKPT_ASSIGN(Manifest manifest, core_.read_manifest(commit));
  StoredNodes nodes(core_, core_.domain_of(commit.machine));
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  for (std::uint64_t i = 0; i < chunks; ++i) CKPT_TRY(drop(commit.manifest + i, 0, nodes));
  for (const ManifestObject& entry : manifest.objects) CKPT_TRY(drop(entry.root, entry.height, nodes));
  return {};
}

// A node's entries count once, however many refer to the node: so what checkpoints share is passed over.
Status Reclaimer::add(Location location, unsigned level, StoredNodes& nodes) {
  if (location == 0 || !counts_.add(location) || level == 0) return {};
  CKPT_ASSIGN(Node node, nodes.load_node(location));
  for (Location child : node) CKPT_TRY(add(child, level - 1, nodes));
  return {};
}

Status Reclaimer::drop(Location location, unsigned level, StoredNodes& nodes) {
  if (location == 0 || !counts_.drop(location) || level == 0) return {};
  CKPT_ASSIGN(Node node, nodes.load_node(location));
  for (Location child : node) CKPT_TRY(drop(child, level - 1, nodes));
  return {};
}

}  // namespace ckpt
