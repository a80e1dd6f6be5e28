// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>

#include "store/epoch_state.h"
#include "store/reclaim.h"

namespace ckpt {

namespace {

// Each deletion is a durable record of its own.
constexpr std::size_t max_deletions_per_step = 16;
constexpr std::uint64_t spare_journal_records = 64;

}  // namespace

Result<std::uint64_t> Reclaimer::collect() {
  std::lock_guard lock(mutex_);
  {
    std::lock_guard commit(core_.commit_mutex);
    CKPT_TRY(core_.check_writable());
  }
  bring_up_to_date();
  measure();
  std::uint64_t freed = 0;
  // What cannot be rewritten gives nothing back, and says nothing of the others.
  for (std::size_t damaged = damaged_.size() + 1; freed == 0 && damaged != damaged_.size();) {
    damaged = damaged_.size();
    CKPT_ASSIGN(freed, reclaim(choose(max_deletions_per_step)));
  }
  CKPT_ASSIGN(std::uint64_t shortened, shorten_journal());
  core_.keep_reserve();
  return freed + shortened;
}

// Looks again at the segments in which something has come alive or died.
void Reclaimer::measure() {
  std::uint64_t total_live = 0;
  for (const SegmentStore::Info& info : core_.segments.list()) {
    if (!info.closed) {
      total_live += info.bytes;
      continue;
    }
    Usage& usage = usage_[info.id];
    bool changed = counts_.take_changed(info.id);
    if (!any_live(info.id)) {
      usage = {0, info.bytes};
    } else if (changed || usage.total_bytes != info.bytes) {
      usage = {info.bytes, info.bytes};
      auto file = core_.segments.file(info.id);
      if (file) {
        usage.live_bytes = 0;
        const auto& ordinals = (*file)->table().ordinals();
        for (const FrameTable::Frame& frame : (*file)->table().frames()) {
          auto first = ordinals.begin() + frame.first;
          auto kept = static_cast<std::uint64_t>(std::count_if(first, first + frame.count, [&](std::uint32_t ordinal) {
            return live(make_location(info.id, ordinal));
          }));
          usage.live_bytes +=
              frame.total_bytes() * kept / frame.count;  // chunks of a frame are of one length, as a rule
        }
      }
    }
    total_live += usage.live_bytes;
  }
  live_bytes_ = total_live;
}

// Some without any live chunk, and the one that is least in use when that is less than half.
std::vector<std::uint64_t> Reclaimer::choose(std::size_t max_dead) const {
  std::vector<std::uint64_t> chosen;
  std::uint64_t worst = 0;
  double worst_share = 0.5;
  for (const auto& [id, usage] : usage_) {
    if (usage.live_bytes == 0 && chosen.size() < max_dead) chosen.push_back(id);
    double share =
        static_cast<double>(usage.live_bytes) / static_cast<double>(std::max<std::uint64_t>(usage.total_bytes, 1));
    if (usage.live_bytes == 0 || share >= worst_share || damaged_.contains(id)) continue;
    worst = id;
    worst_share = share;
  }
  if (worst != 0) chosen.push_back(worst);
  return chosen;
}

// From here on nobody new finds the chunks of these segments; who had found them before is asked. Then the changes
// since are counted, and what is dead now stays dead.
Result<std::uint64_t> Reclaimer::reclaim(const std::vector<std::uint64_t>& segments) {
  if (segments.empty()) return std::uint64_t{0};
  for (std::uint64_t segment : segments) core_.segments.allow_duplicates(segment, false);
  auto step = [&]() -> Result<std::uint64_t> {
    std::unordered_set<Location> held;
    std::set<std::uint64_t> held_segments;
    for (const auto& epoch : core_.epochs()) {
      CKPT_TRY(epoch->each_location([&](Location location) {
        if (std::find(segments.begin(), segments.end(), segment_of(location)) == segments.end()) return;
        held.insert(location);
        held_segments.insert(segment_of(location));
      }));
    }
    bring_up_to_date();
    std::uint64_t freed = 0;
    for (std::uint64_t segment : segments) {
      std::uint64_t bytes = usage_[segment].total_bytes;
      bool dead = !any_live(segment) && !held_segments.contains(segment);
      CKPT_ASSIGN(std::uint64_t more, dead ? remove_segment(segment, bytes) : rewrite_segment(segment, bytes, held));
      freed += more;
      // What an open epoch keeps alive may be given back when it ends: look again then.
      if (held_segments.contains(segment)) usage_[segment].total_bytes = 0;
    }
    return freed;
  };
  auto result = step();
  for (std::uint64_t segment : segments) core_.segments.allow_duplicates(segment, true);
  return result;
}

Result<std::uint64_t> Reclaimer::remove_segment(std::uint64_t segment, std::uint64_t bytes) {
  {
    std::lock_guard commit(core_.commit_mutex);
    // The record keeps the ID from being used again, as who reads this segment must not find another's chunks there. On
    // a full disk it may be missing when a larger ID does the same.
    Status noted = core_.write_record(DroppedRecord{segment});
    if (!noted && (noted.error().code != Code::no_space || core_.segments.is_last(segment))) return noted.error();
  }
  counts_.forget(segment);
  usage_.erase(segment);
  damaged_.erase(segment);
  CKPT_TRY(core_.segments.remove(segment));
  return bytes;
}

Result<std::uint64_t> Reclaimer::rewrite_segment(std::uint64_t segment, std::uint64_t bytes,
                                                 const std::unordered_set<Location>& held) {
  auto keep = [&](std::uint32_t ordinal) {
    Location location = make_location(segment, ordinal);
    return live(location) || held.contains(location);
  };
  auto file = core_.segments.file(segment);
  std::uint64_t kept_bytes = 0;
  for (std::size_t i = 0; file && i < (*file)->table().frames().size(); ++i) {
    const FrameTable::Frame& frame = (*file)->table().frames()[i];
    auto first = (*file)->table().ordinals().begin() + frame.first;
    auto kept = static_cast<std::uint64_t>(std::count_if(first, first + frame.count, keep));
    kept_bytes += frame.total_bytes() * kept / frame.count;
  }
  if (2 * kept_bytes >= bytes) return std::uint64_t{0};
  auto now = core_.segments.rewrite(segment, keep, core_.options.compression_level);
  if (!now && now.error().code == Code::corrupt) {
    damaged_.insert(segment);
    return std::uint64_t{0};
  }
  if (!now) return now.error();
  usage_[segment] = {*now, *now};
  return bytes > *now ? bytes - *now : 0;
}

Result<std::uint64_t> Reclaimer::shorten_journal() {
  std::lock_guard commit(core_.commit_mutex);
  CKPT_TRY(core_.check_writable());  // a commit may have failed since
  if (core_.journal.record_count() <= 2 * core_.catalog.live_record_count() + spare_journal_records)
    return std::uint64_t{0};
  std::uint64_t before = core_.journal.bytes();
  Status status = core_.journal.rewrite(core_.catalog.live_records());
  if (!status && core_.journal.usable()) return std::uint64_t{0};  // the old one serves as well
  if (!status) return status.error();
  return before > core_.journal.bytes() ? before - core_.journal.bytes() : 0;
}

}  // namespace ckpt
