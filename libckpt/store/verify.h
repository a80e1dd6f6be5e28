// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/core.h"

namespace ckpt {

// Chunks that have been looked at, one bit each and level kind: a node counts only with all that is below it.
class SeenChunks {
public:
  bool contains(Location location, unsigned level) const {
    auto at = bits_.find(key(location, level));
    return at != bits_.end() && ordinal_of(location) < at->second.size() && at->second[ordinal_of(location)];
  }
  void insert(Location location, unsigned level) {
    std::vector<bool>& bits = bits_[key(location, level)];
    if (bits.size() <= ordinal_of(location)) bits.resize(ordinal_of(location) + 1);
    bits[ordinal_of(location)] = true;
  }

private:
  static std::uint64_t key(Location location, unsigned level) { return segment_of(location) << 3 | level; }
  std::unordered_map<std::uint64_t, std::vector<bool>> bits_;
};

// One verification. Single use, one thread.
class Verifier {
public:
  using Progress = bool (*)(void* context, const VerifyProgress&);

  Verifier(StoreCore& core, Progress progress, void* context) : core_(core), progress_(progress), context_(context) {}

  Verification run(const std::vector<CommitRecord>& commits);

private:
  static constexpr std::uint64_t frames_per_report = 512;
  static constexpr std::uint64_t chunks_per_report = 1 << 16;

  void plan_checkpoint(const CommitRecord& commit);
  void plan_tree(Location location, unsigned level, std::uint32_t domain);
  std::uint64_t new_bytes(SeenChunks& frames, Location location);
  void check_checkpoint(const CommitRecord& commit);
  void check_tree(Location location, unsigned level, std::uint32_t domain);
  bool check_chunk(Location location, std::uint32_t domain);
  Result<Chunk> read_fresh(Location location);
  void tell();
  void add(Location location, const Error& error);
  void report(const CommitRecord& commit);

  StoreCore& core_;
  Progress progress_;
  void* context_;
  SeenChunks planned_;
  SeenChunks planned_frames_;  // by the index of their first chunk
  SeenChunks read_frames_;
  std::uint64_t planned_chunks_ = 0;
  SeenChunks seen_;
  std::map<Location, std::string> bad_;  // of the checkpoint under way, with the reason
  std::vector<Damage> damages_;
  std::shared_ptr<const DecodedFrame> frame_;
  std::uint64_t frame_segment_ = 0;
  std::uint64_t frames_ = 0;
  std::uint64_t done_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  bool cancelled_ = false;
};

}  // namespace ckpt
