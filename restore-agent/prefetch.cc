// SPDX-License-Identifier: LGPL-2.1-or-later
#include "prefetch.h"

#include <sys/eventfd.h>

#include <algorithm>

namespace agent {

using ckpt::Code;
using ckpt::page_size_bytes;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// Small enough that a fault beside it hardly waits, large enough that a system call for each does not matter.
constexpr std::uint64_t run_bytes = 256 << 10;
constexpr std::uint64_t hint_bytes = 256 << 10;
constexpr std::size_t hint_frame_pages = 64;
constexpr std::uint64_t extents_bytes = 2 << 20;  // hints are looked at that often
constexpr std::size_t extents_limit = 1024;
constexpr unsigned changed_generations = 8;
constexpr std::size_t changed_pages_limit = 65536;
constexpr auto lazy_look = milliseconds(100);
constexpr auto store_wait = milliseconds(250);
constexpr auto host_wait = milliseconds(20);
constexpr auto fault_look = std::chrono::microseconds(200);
// Someone always waits somewhere on a busy machine; the rest must get on all the same.
constexpr auto yield_limit = milliseconds(5);

}  // namespace

Prefetch::Prefetch(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set,
                   Hints& hints, Stop& stop, int complete_event)
    : map_(map),
      filler_(filler),
      source_(source),
      progress_(progress),
      working_set_(working_set),
      hints_(hints),
      stop_(stop),
      complete_event_(complete_event),
      may_go_on_(steady_clock::now()) {}

void Prefetch::run() {
  auto known = working_set_list();
  if (pause_for_others() == Went::end) return;
  if (fetch_list(known) == Went::end) return;
  if (progress_.mode() != Mode::full && fetch_list(changed_list()) == Went::end) return;
  if (fetch_rest() == Went::end) return;
  progress_.mark("ram_local");
  eventfd_write(complete_event_, 1);
}

std::vector<UnitId> Prefetch::working_set_list() {
  std::vector<UnitId> list;
  auto pages = working_set_.load();
  if (!pages.ok()) return list;
  for (const WorkingSetPage& page : *pages) {
    auto index = map_.find(page.block);
    if (!index) continue;
    Region& region = *map_.regions()[*index];
    std::uint64_t unit = page.page / (region.unit_bytes() / page_size_bytes);
    if (unit < region.units()) list.push_back({*index, unit});
  }
  return list;
}

std::vector<UnitId> Prefetch::changed_list() {
  std::vector<UnitId> list;
  for (std::uint32_t i = 0; i < map_.regions().size(); ++i) {
    Region& region = *map_.regions()[i];
    auto pages = source_.changed_pages(region.object(), changed_generations);
    if (!pages.ok()) continue;
    for (std::uint64_t page : *pages) {
      if (list.size() == changed_pages_limit) return list;
      std::uint64_t unit = page / (region.unit_bytes() / page_size_bytes);
      if (unit < region.units()) list.push_back({i, unit});
    }
  }
  return list;
}

Prefetch::Went Prefetch::pause_for_others() {
  while (progress_.mode() == Mode::lazy)
    if (!stop_.sleep(lazy_look)) return Went::end;
  if (progress_.mode() == Mode::aggressive) {
    auto limit = steady_clock::now() + yield_limit;
    while (progress_.faults_pending.load(std::memory_order_relaxed) != 0 && steady_clock::now() < limit)
      if (!stop_.sleep(fault_look)) return Went::end;
  }
  auto now = steady_clock::now();
  if (may_go_on_ > now && !stop_.sleep(may_go_on_ - now)) return Went::end;
  return stop_.requested() ? Went::end : Went::on;
}

Prefetch::Went Prefetch::wait_for_store(const ckpt::Error& error) {
  progress_.store_errors.fetch_add(1, std::memory_order_relaxed);
  progress_.set_obstacle(Obstacle::store, error.message());
  if (!stop_.sleep(store_wait)) return Went::end;
  auto reopened = source_.reopen(error);
  if (!reopened.ok()) progress_.set_obstacle(Obstacle::store, reopened.error().message());
  return Went::on;
}

Prefetch::Went Prefetch::fetch_list(const std::vector<UnitId>& list) {
  for (std::size_t i = 0; i < list.size();) {
    std::uint64_t units = 1;
    while (i + units < list.size() && list[i + units] == UnitId{list[i].region, list[i].unit + units}) ++units;
    if (fetch_hints() == Went::end || fetch_range(list[i], units) == Went::end) return Went::end;
    i += units;
  }
  return Went::on;
}

Prefetch::Went Prefetch::fetch_hints() {
  while (auto hint = hints_.pop()) {
    Region& region = map_.region(*hint);
    if (region.unit_bytes() != page_size_bytes) continue;
    std::uint64_t window = hint_bytes / region.unit_bytes();
    std::uint64_t first = hint->unit / window * window;
    std::uint64_t units = std::min(window, region.units() - first);
    if (fetch_range({hint->region, first}, units) == Went::end) return Went::end;
    auto pages = source_.frame_neighbours(region.object(), hint->unit, hint_frame_pages);
    if (!pages.ok()) continue;
    for (std::uint64_t page : *pages)
      if (page < region.units() && fetch_range({hint->region, page}, 1) == Went::end) return Went::end;
  }
  return Went::on;
}

Prefetch::Went Prefetch::fetch_rest() {
  for (std::uint32_t i = 0; i < map_.regions().size(); ++i)
    if (fetch_region(i) == Went::end) return Went::end;
  while (!damaged_.empty()) {
    std::vector<UnitId> again;
    again.swap(damaged_);
    if (!stop_.sleep(store_wait)) return Went::end;
    if (fetch_list(again) == Went::end) return Went::end;
  }
  return Went::on;
}

Prefetch::Went Prefetch::fetch_region(std::uint32_t index) {
  Region& region = *map_.regions()[index];
  const std::uint64_t length = region.units() * region.unit_bytes();
  for (std::uint64_t offset = 0; offset < length;) {
    if (fetch_hints() == Went::end) return Went::end;
    auto extents = source_.extents(region.object(), offset, std::min(extents_bytes, length - offset), extents_limit);
    if (!extents.ok() || extents->empty()) {
      auto error = extents.ok() ? ckpt::make_error(Code::corrupt, "a map without extents") : extents.error();
      if (wait_for_store(error) == Went::end) return Went::end;
      continue;
    }
    for (const ckpt::Extent& extent : *extents) {
      std::uint64_t end = std::min(extent.offset + extent.length, length);
      if (extent.zero) {
        // Left alone: what is missing when the memory is handed back reads as zeroes.
        progress_.pages_zero.fetch_add((end - offset) / page_size_bytes, std::memory_order_relaxed);
      } else {
        std::uint64_t first = offset / region.unit_bytes();
        std::uint64_t last = (end - 1) / region.unit_bytes();
        if (fetch_range({index, first}, last - first + 1) == Went::end) return Went::end;
      }
      offset = end;
    }
  }
  return Went::on;
}

Prefetch::Went Prefetch::fetch_range(const UnitId& first, std::uint64_t units) {
  Region& region = map_.region(first);
  const std::uint64_t limit = std::max<std::uint64_t>(1, run_bytes / region.unit_bytes());
  const std::uint64_t end = first.unit + units;
  for (std::uint64_t unit = first.unit; unit < end;) {
    if (region.present(unit)) {
      ++unit;
      continue;
    }
    std::uint64_t run = 1;
    while (run < limit && unit + run < end && !region.present(unit + run)) ++run;
    if (fetch_run({first.region, unit}, run) == Went::end) return Went::end;
    unit += run;
  }
  return Went::on;
}

Prefetch::Went Prefetch::fetch_run(const UnitId& first, std::uint64_t units) {
  Region& region = map_.region(first);
  const std::uint64_t bytes = units * region.unit_bytes();
  for (;;) {
    if (pause_for_others() == Went::end) return Went::end;
    buffer_.resize(bytes);
    auto read = source_.read(region.object(), first.unit * region.unit_bytes(), buffer_);
    if (read.ok()) break;
    if (read.error().code == Code::corrupt) {
      // One bad frame must not keep its neighbours away.
      for (std::uint64_t i = 0; units > 1 && i < units; ++i)
        if (fetch_run({first.region, first.unit + i}, 1) == Went::end) return Went::end;
      if (units == 1) {
        progress_.store_errors.fetch_add(1, std::memory_order_relaxed);
        progress_.set_obstacle(Obstacle::store, read.error().message());
        damaged_.push_back(first);
      }
      return Went::on;
    }
    if (wait_for_store(read.error()) == Went::end) return Went::end;
  }
  for (Fill fill = filler_.copy(first, buffer_); fill != Fill::ok; fill = filler_.copy(first, buffer_)) {
    if (fill == Fill::gone) return Went::end;
    progress_.set_obstacle(Obstacle::host, "the kernel has no memory for the machine's pages now");
    if (!stop_.sleep(host_wait)) return Went::end;
  }
  if (damaged_.empty()) progress_.clear_obstacle();
  progress_.bytes_read.fetch_add(bytes, std::memory_order_relaxed);
  progress_.pages_prefetched.fetch_add(bytes / page_size_bytes, std::memory_order_relaxed);
  if (std::uint64_t cap = progress_.bandwidth_bytes_s.load(std::memory_order_relaxed)) {
    auto cost = std::chrono::nanoseconds(
        static_cast<std::int64_t>(static_cast<double>(bytes) / static_cast<double>(cap) * 1e9));
    may_go_on_ = std::max(may_go_on_, steady_clock::now() - milliseconds(20)) + cost;
  }
  return Went::on;
}

}  // namespace agent
