// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/epoch_state.h"

#include <algorithm>
#include <array>
#include <set>

namespace ckpt {

namespace {

constexpr std::uint64_t max_growing_bytes = 1ull << 30;

// Their content is written anew in each epoch, and its length is what was written.
bool grows(const Object& object) {
  return object.object_class == ObjectClass::device_state || object.object_class == ObjectClass::config;
}

bool same_object(const Object& one, const Object& other) {
  return one.object_class == other.object_class && one.name == other.name;
}

Secret secret_of(StoreCore& core, std::uint32_t domain) {
  std::shared_lock guard(core.catalog_mutex);
  auto at = core.catalog.domains().find(domain);
  return at == core.catalog.domains().end() ? Secret{} : at->second;
}

}  // namespace

EpochState::EpochState(std::shared_ptr<StoreCore> core, std::uint32_t machine, std::uint32_t domain,
                       std::uint64_t number)
    : core_(std::move(core)),
      machine_(machine),
      domain_(domain),
      number_(number),
      failures_at_begin_(core_->segments.failures()),
      packer_(core_->segments, secret_of(*core_, domain), core_->options.compression_level),
      spill_(*core_->backend, spill_prefix + std::to_string(machine) + "-" + std::to_string(number)) {}

Result<std::shared_ptr<EpochState>> EpochState::begin(std::shared_ptr<StoreCore> core, std::uint32_t machine,
                                                      std::uint32_t domain, std::uint64_t number, Base base,
                                                      const std::vector<Object>& objects) {
  if (objects.size() > max_objects) return make_error(Code::limit, "more than 4096 objects");
  std::set<std::pair<ObjectClass, std::string>> names;
  for (const Object& object : objects) {
    CKPT_TRY(check_object(object));
    if (!names.emplace(object.object_class, object.name).second) {
      return make_error(Code::invalid, "two objects named " + object.name);
    }
  }
  std::shared_ptr<EpochState> epoch(new EpochState(std::move(core), machine, domain, number));
  epoch->base_ = std::move(base);
  // Before anything is appended, so that reclaiming sees all of it.
  epoch->core_->add_epoch(epoch);
  std::lock_guard lock(epoch->mutex_);
  CKPT_TRY(epoch->match_objects(objects));
  return epoch;
}

Status EpochState::match_objects(const std::vector<Object>& objects) {
  for (const Object& object : objects) {
    EpochObject& entry = objects_.emplace_back();
    entry.object = object;
    if (grows(object)) {
      entry.object.size_bytes = 0;
      continue;
    }
    for (std::size_t i = 0; base_.closed && i < base_.closed->objects_.size(); ++i) {
      if (!same_object(base_.closed->objects_[i].object, object)) continue;
      entry.closed_object = i;
      entry.base_size = base_.closed->objects_[i].object.size_bytes;
    }
    for (const ManifestObject& before : base_.manifest.objects) {
      if (!same_object(before.object, object)) continue;
      entry.base = {before.root, before.height};
      entry.base_size = before.object.size_bytes;
    }
  }
  // What is cut off an object is gone, also when the object grows again later. The rest of its last page: see
  // cut_tails().
  for (EpochObject& entry : objects_) {
    std::uint64_t pages = pages_of(entry.object.size_bytes);
    if (pages < pages_of(entry.base_size)) entry.pages.zero(pages, pages_of(entry.base_size));
  }
  return {};
}

// At the commit, because until then the epoch before may still write to that page.
Status EpochState::cut_tails() {
  for (std::size_t i = 0; i < objects_.size(); ++i) {
    std::uint64_t size = objects_[i].object.size_bytes;
    std::size_t tail = size % page_size_bytes;
    if (objects_[i].base_size <= size || tail == 0) continue;
    CKPT_TRY(zero_part(i, size / page_size_bytes, tail, page_size_bytes - tail));
  }
  return {};
}

Status EpochState::check_open() const {
  if (phase_ == Phase::committed) return make_error(Code::invalid, "the epoch has been committed");
  if (phase_ == Phase::abandoned) return make_error(Code::invalid, "the epoch has been abandoned");
  if (error_) return *error_;
  if (core_->segments.failures() != failures_at_begin_) {
    Error error = core_->segments.last_failure();
    error.context = "the epoch is lost with an earlier failure: " + error.context;
    return error;
  }
  return {};
}

Status EpochState::check_range(std::size_t object, std::uint64_t offset, std::uint64_t length) const {
  if (object >= objects_.size()) return make_error(Code::invalid, "no object " + std::to_string(object));
  const Object& target = objects_[object].object;
  std::uint64_t end = grows(target) ? max_growing_bytes : target.size_bytes;
  if (offset > end || length > end - offset) {
    return make_error(Code::invalid, "bytes " + std::to_string(offset) + " + " + std::to_string(length) +
                                         " are beyond the end of " + target.name);
  }
  return {};
}

Status EpochState::keep(Status status) {
  if (!status && !error_) error_ = status.error();
  return status;
}

Status EpochState::write(std::size_t object, std::uint64_t offset, ByteView data) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(check_open());
  CKPT_TRY(check_range(object, offset, data.size()));
  CKPT_TRY(keep(write_locked(object, offset, data)));
  return keep(spill());
}

Status EpochState::write_locked(std::size_t object, std::uint64_t offset, ByteView data) {
  EpochObject& entry = objects_[object];
  data_bytes_ += data.size();
  if (grows(entry.object)) entry.object.size_bytes = std::max(entry.object.size_bytes, offset + data.size());
  while (!data.empty()) {
    std::uint64_t page = offset / page_size_bytes;
    std::size_t from = offset % page_size_bytes;
    std::size_t length = std::min<std::size_t>(data.size(), page_size_bytes - from);
    if (length == page_size_bytes) {
      CKPT_TRY(packer_.add(object, page, data.first(length), entry.pages));
    } else {
      CKPT_TRY(write_part(object, page, from, data.first(length)));
    }
    data = data.subspan(length);
    offset += length;
  }
  return {};
}

Status EpochState::zero(std::size_t object, std::uint64_t offset, std::uint64_t length) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(check_open());
  CKPT_TRY(check_range(object, offset, length));
  CKPT_TRY(keep(zero_locked(object, offset, length)));
  return keep(spill());
}

Status EpochState::spill() {
  std::uint64_t bytes = 0;
  for (const EpochObject& entry : objects_) bytes += entry.pages.memory_bytes();
  if (bytes <= core_->options.epoch_map_bytes) return {};
  for (std::size_t i = 0; i < objects_.size(); ++i) {
    if (objects_[i].pages.empty()) continue;
    CKPT_TRY(spill_.add(i, objects_[i].pages));
    objects_[i].pages = PageMap();
  }
  return {};
}

Status EpochState::zero_locked(std::size_t object, std::uint64_t offset, std::uint64_t length) {
  EpochObject& entry = objects_[object];
  std::uint64_t end = offset + length;
  if (grows(entry.object)) entry.object.size_bytes = std::max(entry.object.size_bytes, end);
  if (length == 0) return {};
  // The rest of the last page is zeroes already.
  if (end == entry.object.size_bytes) end = pages_of(end) * page_size_bytes;
  std::uint64_t first_page = pages_of(offset);
  std::uint64_t end_page = end / page_size_bytes;
  if (first_page > end_page) return zero_part(object, offset / page_size_bytes, offset % page_size_bytes, length);
  if (offset < first_page * page_size_bytes) {
    CKPT_TRY(zero_part(object, first_page - 1, offset % page_size_bytes, first_page * page_size_bytes - offset));
  }
  if (first_page < end_page) {
    packer_.forget(object, first_page, end_page);
    entry.pages.zero(first_page, end_page);
  }
  return end % page_size_bytes == 0 ? Status() : zero_part(object, end_page, 0, end % page_size_bytes);
}

Status EpochState::write_part(std::size_t object, std::uint64_t page, std::size_t from, ByteView data) {
  std::array<std::uint8_t, page_size_bytes> bytes;
  CKPT_TRY(page_now(object, page, bytes));
  std::copy(data.begin(), data.end(), bytes.begin() + from);
  return packer_.add(object, page, bytes, objects_[object].pages);
}

Status EpochState::zero_part(std::size_t object, std::uint64_t page, std::size_t from, std::size_t length) {
  std::array<std::uint8_t, page_size_bytes> bytes;
  CKPT_TRY(page_now(object, page, bytes));
  std::fill_n(bytes.begin() + from, length, std::uint8_t{0});
  return packer_.add(object, page, bytes, objects_[object].pages);
}

Result<std::optional<Location>> EpochState::changed(std::size_t object, std::uint64_t page) {
  std::optional<Location> location = objects_[object].pages.find(page);
  return location ? Result<std::optional<Location>>(location) : spill_.find(object, page);
}

Status EpochState::page_now(std::size_t object, std::uint64_t page, std::span<std::uint8_t> out) {
  std::fill(out.begin(), out.end(), std::uint8_t{0});
  ByteView waiting = packer_.waiting(object, page);
  if (!waiting.empty()) {
    std::copy(waiting.begin(), waiting.end(), out.begin());
    return {};
  }
  const EpochObject& entry = objects_[object];
  CKPT_ASSIGN(std::optional<Location> location, changed(object, page));
  if (!location && base_.closed && entry.closed_object) {
    std::lock_guard lock(base_.closed->mutex_);
    if (base_.closed->phase_ == Phase::abandoned) {
      return make_error(Code::invalid, "the epoch before this one has been abandoned");
    }
    if (base_.closed->phase_ == Phase::open) return base_.closed->page_now(*entry.closed_object, page, out);
    BaseNodes nodes(*core_, domain_);
    CKPT_ASSIGN(location, find_page(nodes, base_.closed->objects_[*entry.closed_object].tree, page));
  } else if (!location) {
    BaseNodes nodes(*core_, domain_);
    CKPT_ASSIGN(location, find_page(nodes, entry.base, page));
  }
  if (*location == 0) return {};
  auto chunk = core_->read_chunk(*location, domain_);
  if (!chunk) return unreadable(chunk.error());
  ByteView bytes = chunk->bytes();
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return {};
}

void EpochState::abandon() {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::open) return;
  phase_ = Phase::abandoned;
  objects_.clear();
  spill_.clear();
  base_ = {};
}

bool EpochState::is_open() {
  std::lock_guard lock(mutex_);
  return phase_ == Phase::open;
}

CheckpointHold EpochState::settled_base() {
  std::lock_guard lock(mutex_);
  if (base_.parent) return {core_, *base_.parent};
  if (!base_.closed) return {};
  std::lock_guard closed_lock(base_.closed->mutex_);
  if (base_.closed->phase_ != Phase::committed) return {};
  return {core_, base_.closed->own_hold_.commit()};
}

Status EpochState::each_location(const std::function<void(Location)>& visit) {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::open) return {};
  for (const EpochObject& entry : objects_) {
    for (const auto& [index, leaf] : entry.pages.leaves()) {
      for (std::size_t i = 0; i < node_entries; ++i) {
        if (((leaf.changed >> i) & 1) != 0 && leaf.locations[i] != 0) visit(leaf.locations[i]);
      }
    }
  }
  return spill_.each_location(visit);
}

}  // namespace ckpt
