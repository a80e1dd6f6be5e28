// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Re-reads and re-hashes what checkpoints reach. Nothing comes out of a cache: the disk is what is asked.
#include "store/verify.h"

#include <algorithm>

namespace ckpt {

Result<Verification> Verifier::run(const std::vector<CommitRecord>& commits) {
  for (const CommitRecord& commit : commits) CKPT_TRY(plan_checkpoint(commit));
  for (const CommitRecord& commit : commits) {
    bad_.clear();
    CKPT_TRY(check_checkpoint(commit));
    CKPT_TRY(report(commit));
    if (!tell()) return make_error(Code::cancelled, "verification was cancelled");
  }
  return Verification{std::move(damages_), commits.size()};
}

// What will be read: the same walk, without the pages. Where it meets damage, so will the checks, and neither goes on
// there.
Status Verifier::plan_checkpoint(const CommitRecord& commit) {
  std::uint32_t domain = core_.domain_of(commit.machine);
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  for (std::uint64_t i = 0; i < chunks; ++i) CKPT_TRY(plan_tree(commit.manifest + i, 0, domain));
  auto manifest = core_.read_manifest(commit);
  for (std::size_t i = 0; manifest && i < manifest->objects.size(); ++i) {
    CKPT_TRY(plan_tree(manifest->objects[i].root, manifest->objects[i].height, domain));
  }
  return {};
}

Status Verifier::plan_tree(Location location, unsigned level, std::uint32_t domain) {
  if (location == 0 || planned_.contains(location, level)) return {};
  planned_.insert(location, level);
  total_bytes_ += new_bytes(planned_frames_, location);
  if (++planned_chunks_ % chunks_per_report == 0 && !tell()) {
    return make_error(Code::cancelled, "verification was cancelled");
  }
  if (level == 0) return {};
  StoredNodes nodes(core_, domain);
  auto node = nodes.load_node(location);
  for (std::size_t i = 0; node && i < node_entries; ++i) CKPT_TRY(plan_tree((*node)[i], level - 1, domain));
  return {};
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

Status Verifier::check_checkpoint(const CommitRecord& commit) {
  std::uint32_t domain = core_.domain_of(commit.machine);
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  bool whole = true;
  for (std::uint64_t i = 0; i < chunks; ++i) {
    whole = check_chunk(commit.manifest + i, domain) && whole;
  }
  if (!whole) return {};
  auto manifest = core_.read_manifest(commit);
  if (!manifest) {
    add(place_of(commit.manifest), manifest.error());
    return {};
  }
  for (const ManifestObject& entry : manifest->objects) CKPT_TRY(check_tree(entry.root, entry.height, domain));
  return {};
}

// What was good in one checkpoint is good in the next; what was bad is bad for each that reaches it.
Status Verifier::check_tree(Location location, unsigned level, std::uint32_t domain) {
  if (location == 0 || seen_.contains(location, level)) return {};
  if (cancelled_) return make_error(Code::cancelled, "verification was cancelled");
  std::size_t bad_before = bad_.size();
  if (check_chunk(location, domain) && level > 0) {
    StoredNodes nodes(core_, domain);
    auto node = nodes.load_node(location);
    if (!node) add(place_of(location), node.error());
    for (std::size_t i = 0; node && i < node_entries; ++i) CKPT_TRY(check_tree((*node)[i], level - 1, domain));
  }
  if (bad_.size() == bad_before) seen_.insert(location, level);
  return {};
}

// False: damaged, or the disk cannot read it, which is as bad for who needs it; noted.
bool Verifier::check_chunk(Location location, std::uint32_t domain) {
  auto chunk = read_fresh(location);
  if (chunk && core_.keys.matches(chunk->bytes(), chunk->hash(), domain)) return true;
  if (chunk) core_.segments.distrust(location);
  add(place_of(location), chunk ? make_error(Code::corrupt, "content does not match its hash") : chunk.error());
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
  if (++frames_ % frames_per_report == 0 && !tell()) cancelled_ = true;
  return chunk;
}

bool Verifier::tell() { return progress_ == nullptr || progress_(context_, {done_bytes_, total_bytes_}); }

void Verifier::add(const std::string& place, const Error& error) { bad_.emplace(place, error.message()); }

Status Verifier::report(const CommitRecord& commit) {
  CheckpointId id;
  {
    std::shared_lock guard(core_.catalog_mutex);
    const CheckpointEntry* entry = core_.catalog.find(CheckpointKey{commit.machine, commit.number});
    if (entry == nullptr) return {};  // removed meanwhile
    id = core_.catalog.info(*entry).id;
  }
  for (const auto& [place, reason] : bad_) {
    auto known = std::find_if(damages_.begin(), damages_.end(),
                              [&where = place](const Damage& damage) { return damage.place == where; });
    if (known == damages_.end())
      damages_.push_back({place, reason, {id}});
    else
      known->checkpoints.push_back(id);
  }
  return {};
}

}  // namespace ckpt
