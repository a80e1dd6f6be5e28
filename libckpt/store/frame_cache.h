// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <algorithm>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "format/frame.h"

namespace ckpt {

// A frame as it is used: checked and decompressed.
struct DecodedFrame {
  std::vector<ChunkEntry> table;
  std::vector<std::uint32_t> offsets;  // of each chunk in raw
  Bytes raw;

  // The chunk's place in the table; the table's size when it is not in this frame.
  std::size_t find(std::uint32_t ordinal) const {
    auto at = std::lower_bound(table.begin(), table.end(), ordinal,
                               [](const ChunkEntry& entry, std::uint32_t wanted) { return entry.ordinal < wanted; });
    return at != table.end() && at->ordinal == ordinal ? static_cast<std::size_t>(at - table.begin()) : table.size();
  }
  ByteView chunk(std::size_t index) const { return ByteView(raw).subspan(offsets[index], table[index].length); }
};

struct FrameKey {
  std::uint64_t file = 0;  // serial of the opened segment file, so a rewritten segment is another
  std::uint64_t offset = 0;
  bool operator==(const FrameKey&) const = default;
};

// The frames used last, up to a bound in bytes.
class FrameCache {
public:
  explicit FrameCache(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}

  std::shared_ptr<const DecodedFrame> find(const FrameKey& key) {
    std::lock_guard lock(mutex_);
    auto at = entries_.find(key);
    if (at == entries_.end()) return nullptr;
    order_.splice(order_.begin(), order_, at->second);
    return at->second->frame;
  }

  void insert(const FrameKey& key, std::shared_ptr<const DecodedFrame> frame) {
    std::lock_guard lock(mutex_);
    if (entries_.contains(key)) return;
    used_bytes_ += cost(*frame);
    order_.push_front({key, std::move(frame)});
    entries_[key] = order_.begin();
    while (used_bytes_ > limit_bytes_ && order_.size() > 1) {
      used_bytes_ -= cost(*order_.back().frame);
      entries_.erase(order_.back().key);
      order_.pop_back();
    }
  }

private:
  struct Entry {
    FrameKey key;
    std::shared_ptr<const DecodedFrame> frame;
  };
  struct KeyHash {
    std::size_t operator()(const FrameKey& key) const {
      return static_cast<std::size_t>((key.file * 0x9E3779B97F4A7C15u) ^ (key.offset * 0xC2B2AE3D27D4EB4Fu));
    }
  };

  static std::size_t cost(const DecodedFrame& frame) {
    return frame.raw.size() + frame.table.size() * (sizeof(ChunkEntry) + sizeof(std::uint32_t)) + 256;
  }

  std::size_t limit_bytes_;
  std::mutex mutex_;
  std::size_t used_bytes_ = 0;
  std::list<Entry> order_;
  std::unordered_map<FrameKey, std::list<Entry>::iterator, KeyHash> entries_;
};

}  // namespace ckpt
