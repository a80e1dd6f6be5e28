// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Re-reads and re-hashes what checkpoints reach. Nothing comes out of a cache: the disk is what is asked.
#include "store/verify.h"

#include <algorithm>

namespace ckpt {

// What was found is told also when it is cancelled: machines may be about to build upon it.
Verification Verifier::run(const std::vector<CommitRecord>& commits) {
  for (const CommitRecord& commit : commits) plan_checkpoint(commit);
  for (const CommitRecord& commit : commits) {
    if (cancelled_) break;
    bad_.clear();
    check_checkpoint(commit);
    report(commit);
    tell();
  }
  return Verification{std::move(damages_), commits.size(), cancelled_};
}

// What will be read: the same walk, without the pages. Where it meets damage, so will the checks, and neither goes on
// there.
void Verifier::plan_checkpoint(const CommitRecord& commit) {
  std::uint32_t domain = core_.domain_of(commit.machine);
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  for (std::uint64_t i = 0; i < chunks; ++i) plan_tree(commit.manifest + i, 0, domain);
  auto manifest = core_.read_manifest(commit);
  for (std::size_t i = 0; manifest && i < manifest->objects.size(); ++i) {
    plan_tree(manifest->objects[i].root, manifest->objects[i].height, domain);
  }
}

void Verifier::plan_tree(Location location, unsigned level, std::uint32_t domain) {
  if (cancelled_ || location == 0 || planned_.contains(location, level)) return;
  planned_.insert(location, level);
  total_bytes_ += new_bytes(planned_frames_, location);
  if (++planned_chunks_ % chunks_per_report == 0) tell();
  if (level == 0) return;
  StoredNodes nodes(core_, domain);
  auto node = nodes.load_node(location);
  for (std::size_t i = 0; node && i < node_entries; ++i) plan_tree((*node)[i], level - 1, domain);
}

// Of the chunk's frame, when it has not been counted before.
std::uint64_t Verifier::new_bytes(SeenChunks& frames, Location location) {
  auto frame = core_.segments.frame_of(location);
  if (!frame) return 0;
  Location first = make_location(segment_of(location), frame->first);  // as good as any of its own
  if (frames.contains(first, 0)) return 0;
  frames.insert(first, 0);
  return frame->total_bytes();
}

void Verifier::check_checkpoint(const CommitRecord& commit) {
  std::uint32_t domain = core_.domain_of(commit.machine);
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  bool whole = true;
  for (std::uint64_t i = 0; i < chunks; ++i) {
    whole = check_chunk(commit.manifest + i, domain) && whole;
  }
  if (!whole) return;
  auto manifest = core_.read_manifest(commit);
  if (!manifest) return add(commit.manifest, manifest.error());
  for (const ManifestObject& entry : manifest->objects) check_tree(entry.root, entry.height, domain);
}

// What was good in one checkpoint is good in the next; what was bad is bad for each that reaches it.
void Verifier::check_tree(Location location, unsigned level, std::uint32_t domain) {
  if (cancelled_ || location == 0 || seen_.contains(location, level)) return;
  std::size_t bad_before = bad_.size();
  if (check_chunk(location, domain) && level > 0) {
    StoredNodes nodes(core_, domain);
    auto node = nodes.load_node(location);
    if (!node) add(location, node.error());
    for (std::size_t i = 0; node && i < node_entries; ++i) check_tree((*node)[i], level - 1, domain);
  }
  if (bad_.size() == bad_before && !cancelled_) seen_.insert(location, level);
}

// False: damaged, or the disk cannot read it, which is as bad for who needs it; noted.
bool Verifier::check_chunk(Location location, std::uint32_t domain) {
  auto chunk = read_fresh(location);
  if (chunk && core_.keys.matches(chunk->bytes(), chunk->hash(), domain)) return true;
  if (chunk) core_.segments.distrust(location);
  add(location, chunk ? make_error(Code::corrupt, "content does not match its hash") : chunk.error());
  return false;
}

// Frames are read from the disk, each once while its chunks are asked for in a row.
Result<Chunk> Verifier::read_fresh(Location location) {
  std::uint32_t ordinal = ordinal_of(location);
  if (frame_ && segment_of(location) == frame_segment_ && frame_->find(ordinal) < frame_->table.size()) {
    return Chunk{frame_, frame_->find(ordinal)};
  }
  done_bytes_ += new_bytes(read_frames_, location);
  CKPT_ASSIGN(Chunk chunk, core_.segments.read_uncached(location));
  frame_ = chunk.frame;
  frame_segment_ = segment_of(location);
  if (++frames_ % frames_per_report == 0) tell();
  return chunk;
}

void Verifier::tell() {
  if (progress_ != nullptr && !cancelled_ && !progress_(context_, {done_bytes_, total_bytes_})) cancelled_ = true;
}

void Verifier::add(Location location, const Error& error) { bad_.emplace(location, error.message()); }

// Damage stays damage when the checkpoint was removed meanwhile: later ones may reach it too.
void Verifier::report(const CommitRecord& commit) {
  std::vector<CheckpointId> kept;
  {
    std::shared_lock guard(core_.catalog_mutex);
    const CheckpointEntry* entry = core_.catalog.find(CheckpointKey{commit.machine, commit.number});
    if (entry != nullptr) kept.push_back(core_.catalog.info(*entry).id);
  }
  for (const auto& [location, reason] : bad_) {
    auto known = std::find_if(damages_.begin(), damages_.end(),
                              [at = location](const Damage& damage) { return damage.location == at; });
    if (known == damages_.end()) known = damages_.insert(damages_.end(), {place_of(location), reason, {}, location});
    known->checkpoints.insert(known->checkpoints.end(), kept.begin(), kept.end());
  }
}

}  // namespace ckpt
