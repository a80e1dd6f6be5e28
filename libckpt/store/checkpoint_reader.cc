// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/checkpoint_reader.h"

#include <algorithm>
#include <map>

#include "store/frame_reader.h"

namespace ckpt {

Result<std::unique_ptr<CheckpointReader>> StoredCheckpoint::open(std::shared_ptr<StoreCore> core,
                                                                 const CheckpointId& id) {
  std::unique_ptr<StoredCheckpoint> reader;
  {
    std::shared_lock guard(core->catalog_mutex);
    CKPT_ASSIGN(const CheckpointEntry* entry, core->catalog.find(id));
    std::uint32_t domain = core->catalog.find_machine(entry->commit.machine)->record.domain;
    reader.reset(new StoredCheckpoint(core, CheckpointHold(core, entry->commit), domain));
    reader->info_ = core->catalog.info(*entry);
  }
  auto manifest = core->read_manifest(reader->hold_.commit());
  if (!manifest) {
    Error error = manifest.error();
    error.context = to_string(id) + ": manifest: " + error.context;
    return error;
  }
  reader->fill(*manifest);
  return std::unique_ptr<CheckpointReader>(std::move(reader));
}

void StoredCheckpoint::fill(const Manifest& manifest) {
  epoch_.wall_clock_ns = manifest.wall_clock_ns;
  epoch_.vm_clock_ns = manifest.vm_clock_ns;
  epoch_.run_state = manifest.run_state;
  epoch_.pause_us = manifest.pause_us;
  epoch_.instance = info_.instance;
  epoch_.application_consistent = info_.application_consistent;
  epoch_.frozen = info_.frozen;
  epoch_.qemu_version = manifest.qemu_version;
  epoch_.machine_type = manifest.machine_type;
  for (const ManifestObject& entry : manifest.objects) {
    objects_.push_back(entry.object);
    trees_.push_back({entry.root, entry.height});
  }
}

Status StoredCheckpoint::check_range(std::size_t object, std::uint64_t offset, std::uint64_t length) const {
  if (object >= objects_.size()) return make_error(Code::invalid, "no object " + std::to_string(object));
  std::uint64_t size = objects_[object].size_bytes;
  if (offset <= size && length <= size - offset) return {};
  return make_error(Code::invalid, "bytes " + std::to_string(offset) + " + " + std::to_string(length) +
                                       " are beyond the end of " + objects_[object].name);
}

Status StoredCheckpoint::check_page(std::size_t object, std::uint64_t page) const {
  if (object >= objects_.size()) return make_error(Code::invalid, "no object " + std::to_string(object));
  if (page < pages_of(objects_[object].size_bytes)) return {};
  return make_error(Code::invalid, "page " + std::to_string(page) + " is beyond the end of " + objects_[object].name);
}

Status StoredCheckpoint::read(std::size_t object, std::uint64_t offset, std::span<std::uint8_t> out) {
  CKPT_TRY(check_range(object, offset, out.size()));
  if (out.empty()) return {};
  std::fill(out.begin(), out.end(), std::uint8_t{0});
  std::uint64_t end = offset + out.size();
  Status failed;
  Status walked = each_page(nodes_, trees_[object], offset / page_size_bytes, pages_of(end),
                            [&](std::uint64_t page, Location location) {
                              auto chunk = core_->read_chunk(location, domain_);
                              if (!chunk) {
                                failed = chunk.error();
                                return false;
                              }
                              ByteView bytes = chunk->bytes();
                              std::uint64_t start = page * page_size_bytes;
                              std::uint64_t from = std::max(start, offset);
                              std::uint64_t to = std::min(start + bytes.size(), end);
                              if (from < to)
                                std::copy_n(bytes.begin() + (from - start), to - from, out.begin() + (from - offset));
                              return true;
                            });
  return walked ? failed : walked;
}

Result<bool> StoredCheckpoint::read_page(std::size_t object, std::uint64_t page,
                                         std::span<std::uint8_t, page_size_bytes> out) {
  CKPT_TRY(check_page(object, page));
  CKPT_ASSIGN(Location location, find_page(nodes_, trees_[object], page));
  if (location == 0) return false;
  CKPT_ASSIGN(Chunk chunk, core_->read_chunk(location, domain_));
  ByteView bytes = chunk.bytes();
  std::copy(bytes.begin(), bytes.end(), out.begin());
  std::fill(out.begin() + bytes.size(), out.end(), std::uint8_t{0});
  return true;
}

Result<std::vector<PagePlace>> StoredCheckpoint::places(std::size_t object, std::uint64_t first, std::uint64_t end) {
  if (first >= end) return std::vector<PagePlace>{};
  CKPT_TRY(check_page(object, end - 1));
  std::vector<PagePlace> places;
  places.reserve(std::min<std::uint64_t>(end - first, node_entries));
  CKPT_TRY(each_page(nodes_, trees_[object], first, end, [&](std::uint64_t page, Location location) {
    places.push_back({page, location});
    return true;
  }));
  return places;
}

Status StoredCheckpoint::prepare(std::size_t object, std::uint64_t first, std::uint64_t end) {
  if (first >= end) return {};
  CKPT_TRY(check_page(object, end - 1));
  std::map<std::uint64_t, Location> segments;
  CKPT_TRY(each_page(nodes_, trees_[object], first, end, [&](std::uint64_t, Location location) {
    segments.try_emplace(segment_of(location), location);
    return true;
  }));
  for (const auto& [segment, location] : segments) {
    auto frame = core_->segments.frame_of(location);
    if (!frame) return frame.error();
  }
  return {};
}

std::unique_ptr<FrameReader> StoredCheckpoint::frames(std::size_t kept) {
  return std::make_unique<StoredFrames>(*core_, domain_, std::max<std::size_t>(kept, 1));
}

Result<std::vector<Extent>> StoredCheckpoint::extents(std::size_t object, std::uint64_t offset, std::uint64_t length,
                                                      std::size_t limit) {
  CKPT_TRY(check_range(object, offset, length));
  std::vector<Extent> extents;
  if (length == 0 || limit == 0) return extents;
  std::uint64_t size = objects_[object].size_bytes;
  std::uint64_t next = offset / page_size_bytes;
  std::uint64_t end = pages_of(offset + length);
  auto add = [&](std::uint64_t first_page, std::uint64_t end_page, bool zero) {
    std::uint64_t from = first_page * page_size_bytes;
    std::uint64_t to = std::min(end_page * page_size_bytes, size);
    if (!extents.empty() && extents.back().zero == zero)
      extents.back().length += to - from;
    else
      extents.push_back({from, to - from, zero});
  };
  // One more than asked for: it closes the one before.
  Status walked = each_page(nodes_, trees_[object], next, end, [&](std::uint64_t page, Location) {
    if (page > next) add(next, page, true);
    add(page, page + 1, false);
    next = page + 1;
    return extents.size() <= limit;
  });
  CKPT_TRY(walked);
  if (next < end && extents.size() <= limit) add(next, end, true);
  if (extents.size() > limit) extents.resize(limit);
  return extents;
}

Result<std::vector<std::uint64_t>> StoredCheckpoint::changed_pages(std::size_t object, CheckpointReader& older) {
  if (object >= objects_.size()) return make_error(Code::invalid, "no object " + std::to_string(object));
  auto* other = dynamic_cast<StoredCheckpoint*>(&older);
  if (other == nullptr || other->core_->uuid != core_->uuid) {
    return make_error(Code::invalid, "checkpoints of different stores cannot be compared");
  }
  Tree before;
  for (std::size_t i = 0; i < other->objects_.size(); ++i) {
    const Object& candidate = other->objects_[i];
    bool same = candidate.object_class == objects_[object].object_class && candidate.name == objects_[object].name;
    if (same) before = other->trees_[i];
  }
  std::vector<std::uint64_t> pages;
  std::uint64_t end = pages_of(objects_[object].size_bytes);
  CKPT_TRY(each_difference(nodes_, trees_[object], other->nodes_, before, [&](std::uint64_t page) {
    if (page < end) pages.push_back(page);
  }));
  return pages;
}

}  // namespace ckpt
