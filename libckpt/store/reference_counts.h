// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "format/location.h"

namespace ckpt {

// How many live places refer to each chunk. Two bytes a chunk; the few that need more are kept aside.
class ReferenceCounts {
public:
  // True when the chunk was not referred to before.
  bool add(Location location) {
    Segment& segment = segment_for(segment_of(location));
    std::uint32_t ordinal = ordinal_of(location);
    if (segment.counts.size() <= ordinal)
      segment.counts.resize(std::max<std::size_t>(ordinal + 1, segment.counts.size() * 2));
    std::uint16_t& count = segment.counts[ordinal];
    if (count == many) {
      ++more_[location];
      return false;
    }
    ++count;
    if (count > 1) return false;
    ++segment.live;
    segment.changed = true;
    return true;
  }

  // True when nothing refers to the chunk any more.
  bool drop(Location location) {
    auto at = segments_.find(segment_of(location));
    std::uint32_t ordinal = ordinal_of(location);
    if (at == segments_.end() || at->second.counts.size() <= ordinal || at->second.counts[ordinal] == 0) return false;
    std::uint16_t& count = at->second.counts[ordinal];
    if (auto extra = more_.find(location); extra != more_.end()) {
      if (--extra->second == 0) more_.erase(extra);
      return false;
    }
    if (--count > 0) return false;
    --at->second.live;
    at->second.changed = true;
    return true;
  }

  bool live(Location location) const {
    auto at = segments_.find(segment_of(location));
    return at != segments_.end() && ordinal_of(location) < at->second.counts.size() &&
           at->second.counts[ordinal_of(location)] != 0;
  }
  bool any_live(std::uint64_t segment) const {
    auto at = segments_.find(segment);
    return at != segments_.end() && at->second.live != 0;
  }
  // Whether chunks of it came alive or died since the last call.
  bool take_changed(std::uint64_t segment) {
    auto at = segments_.find(segment);
    return at != segments_.end() && std::exchange(at->second.changed, false);
  }
  void forget(std::uint64_t segment) {
    recent_ = {};
    segments_.erase(segment);
  }
  void clear() {
    recent_ = {};
    segments_.clear();
    more_.clear();
  }

private:
  static constexpr std::uint16_t many = std::numeric_limits<std::uint16_t>::max();
  struct Segment {
    std::vector<std::uint16_t> counts;
    std::uint32_t live = 0;
    bool changed = true;
  };
  // A day's epochs are a thousand million calls, so the map is asked rarely.
  Segment& segment_for(std::uint64_t id) {
    Recent& recent = recent_[id % recent_.size()];
    if (recent.segment == nullptr || recent.id != id) recent = {id, &segments_[id]};
    return *recent.segment;
  }
  struct Recent {
    std::uint64_t id = 0;
    Segment* segment = nullptr;
  };

  std::array<Recent, 256> recent_{};
  std::unordered_map<std::uint64_t, Segment> segments_;
  std::unordered_map<Location, std::uint32_t> more_;  // references beyond `many`
};

}  // namespace ckpt
