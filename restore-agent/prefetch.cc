// SPDX-License-Identifier: LGPL-2.1-or-later
#include "prefetch.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "priority.h"

namespace agent {

using ckpt::Code;
using ckpt::page_size_bytes;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// More than a disk needs to be busy; few enough to leave the others their CPUs.
constexpr unsigned near_threads_limit = 4;
constexpr auto lazy_look = milliseconds(100);
constexpr auto store_wait = milliseconds(250);
constexpr auto host_wait = milliseconds(20);
constexpr auto fault_look = std::chrono::microseconds(20);
// Someone always waits somewhere on a busy machine; the rest must get on all the same.
constexpr auto yield_limit = milliseconds(5);
// So long nobody has waited for a page, and the CPU that is left to the machine may be used, too.
constexpr auto calm_time = milliseconds(100);
constexpr auto calm_look = milliseconds(5);

}  // namespace

Prefetch::Prefetch(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set,
                   Hints& hints, Flow& flow, Stop& stop, int complete_event)
    : map_(map),
      filler_(filler),
      source_(source),
      progress_(progress),
      flow_(flow),
      stop_(stop),
      plan_(map, source, progress, working_set, hints),
      complete_event_(complete_event),
      cpus_(std::max(std::thread::hardware_concurrency(), 1u)),
      may_go_on_(steady_clock::now()) {}

void Prefetch::run() {
  plan_.start();
  if (pause_for_others() == Went::end) return;
  do {
    if (damaged_.exchange(false) && !stop_.sleep(store_wait)) return;
    if (work_together() == Went::end) return;
  } while (plan_.start_again());
  progress_.mark("ram_local");
  eventfd_write(complete_event_, 1);
}

Prefetch::Went Prefetch::work_together() {
  nothing_left_ = false;
  if (work(0) == Went::end) ended_ = true;
  nothing_left_ = true;
  for (auto& other : others_) other.join();
  others_.clear();
  return ended_ ? Went::end : Went::on;
}

unsigned Prefetch::threads_wanted() const {
  return flow_.far() ? flow_.step().threads : std::min(cpus_, near_threads_limit);
}

void Prefetch::start_others() {
  while (others_.size() + 1 < threads_wanted()) {
    const auto number = static_cast<unsigned>(others_.size()) + 1;
    others_.emplace_back([this, number] {
      if (work(number) == Went::end) ended_ = true;
      nothing_left_ = true;
    });
  }
}

// Threads that a far store needed, and no longer does, wait until it does. Of those of a near one, the last leaves a
// CPU to a machine that runs, as long as it waits for pages.
Prefetch::Went Prefetch::stand_by(unsigned number, std::uint64_t& faults_seen) {
  const bool spare = number > 0 && number + 1 == cpus_ && cpus_ <= near_threads_limit;
  auto calm_at = steady_clock::now();
  while (!nothing_left_) {
    const bool wanted = number < threads_wanted();
    if (wanted && (!spare || flow_.far() || progress_.mode() != Mode::aggressive)) break;
    const std::uint64_t faults = progress_.faults.load(std::memory_order_relaxed);
    const auto now = steady_clock::now();
    if (faults != std::exchange(faults_seen, faults)) calm_at = now + calm_time;
    if (wanted && now >= calm_at) break;
    if (!stop_.sleep(calm_look)) return Went::end;
  }
  return Went::on;
}

Prefetch::Went Prefetch::work(unsigned number) {
  sharpen_sleeps_of_this_thread();
  // What is read once is not needed again.
  Loader loader(source_, 1);
  std::uint64_t faults_seen = ~std::uint64_t{0};
  for (;;) {
    if (number == 0) start_others();
    if (stand_by(number, faults_seen) == Went::end) return Went::end;
    if (pause_for_others() == Went::end) return Went::end;
    if (number == 0 && flow_.far()) {
      auto known = plan_.look_ahead(loader);
      if (!known.ok() && wait_for_store(known.error()) == Went::end) return Went::end;
    }
    auto batch = plan_.next(loader);
    if (auto damage = plan_.damage()) note_damage(*damage);
    if (!batch.ok()) {
      if (wait_for_store(batch.error()) == Went::end) return Went::end;
      continue;
    }
    if (batch->empty()) return Went::on;
    // With a far store it mostly sleeps, and when it is late, nothing is on its way.
    put_this_thread_last(progress_.mode() == Mode::aggressive && !batch->soon && !flow_.far());
    bool huge = map_.regions()[batch->region]->unit_bytes() != page_size_bytes;
    if ((huge ? fetch_huge(*batch) : fetch(*batch, loader)) == Went::end) return Went::end;
  }
}

Prefetch::Went Prefetch::pause_for_others(bool soon) {
  while (progress_.mode() == Mode::lazy)
    if (!stop_.sleep(lazy_look)) return Went::end;
  // What they wait for at a far store has been asked for; behind it goes what is asked for now.
  if (progress_.mode() == Mode::aggressive && !soon && !flow_.far()) {
    auto limit = steady_clock::now() + yield_limit;
    while (progress_.faults_pending.load(std::memory_order_relaxed) != 0 && steady_clock::now() < limit)
      if (!stop_.sleep(fault_look)) return Went::end;
  }
  std::unique_lock guard(pace_lock_);
  auto until = may_go_on_;
  guard.unlock();
  auto now = steady_clock::now();
  if (until > now && !stop_.sleep(until - now)) return Went::end;
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

Prefetch::Went Prefetch::damaged(const Batch& batch, std::size_t index, const ckpt::Error& error) {
  if (error.code != Code::corrupt) return wait_for_store(error);
  note_damage(error);
  plan_.put_back(batch.region, batch.places.pages[index].page);
  return Went::on;
}

// The store may have been repaired until what was put back comes once more.
void Prefetch::note_damage(const ckpt::Error& error) {
  damaged_ = true;
  progress_.store_errors.fetch_add(1, std::memory_order_relaxed);
  progress_.set_obstacle(Obstacle::store, error.message());
}

template <typename Attempt>
Prefetch::Went Prefetch::fill(Attempt attempt) {
  for (Fill fill = attempt(); fill != Fill::ok; fill = attempt()) {
    if (fill == Fill::gone) return Went::end;
    progress_.set_obstacle(Obstacle::host, "the kernel has no memory for the machine's pages now");
    if (!stop_.sleep(host_wait)) return Went::end;
  }
  if (!damaged_) progress_.clear_obstacle();
  return Went::on;
}

Prefetch::Went Prefetch::fill_zeroes(const Batch& batch) {
  const Region& region = *map_.regions()[batch.region];
  const auto& pages = batch.zeroes;
  for (std::size_t at = 0, run; at < pages.size(); at += run) {
    run = 1;
    if (region.present(pages[at])) continue;
    while (at + run < pages.size() && pages[at + run] == pages[at] + run && !region.present(pages[at + run])) ++run;
    if (fill([&] { return filler_.zero({batch.region, pages[at]}, run); }) == Went::end) return Went::end;
  }
  return Went::on;
}

Prefetch::Went Prefetch::fetch(Batch& batch, Loader& loader) {
  if (fill_zeroes(batch) == Went::end) return Went::end;
  Region& region = *map_.regions()[batch.region];
  auto& pages = batch.places.pages;
  for (std::size_t at = 0; at < pages.size();) {
    if (region.present(pages[at].page)) {
      ++at;
      continue;
    }
    if (pause_for_others(batch.soon) == Went::end) return Went::end;
    auto bytes = loader.read(batch.places, at, pages.size(), flow_.far() ? flow_.step().request_bytes : 0);
    flow_.note(loader.requests(), steady_clock::now());
    if (!bytes.ok()) {
      if (damaged(batch, at, bytes.error()) == Went::end) return Went::end;
      if (bytes.error().code == Code::corrupt) ++at;
      continue;
    }
    std::uint64_t filled = 0;
    auto attempt = [&] {
      return filler_.copy_missing(batch.region, std::span(pages).subspan(at, bytes->size()), *bytes, filled);
    };
    if (fill(attempt) == Went::end) return Went::end;
    count(filled * page_size_bytes);
    at += bytes->size();
  }
  return Went::on;
}

Prefetch::Went Prefetch::fetch_huge(Batch& batch) {
  Region& region = *map_.regions()[batch.region];
  std::vector<std::uint8_t> bytes(region.unit_bytes());
  for (std::size_t at = 0; at < batch.places.pages.size();) {
    std::uint64_t unit = batch.places.pages[at].page / (region.unit_bytes() / page_size_bytes);
    if (region.present(unit)) {
      ++at;
      continue;
    }
    if (pause_for_others() == Went::end) return Went::end;
    auto read = source_.read(region.object(), unit * region.unit_bytes(), bytes);
    if (!read.ok()) {
      if (damaged(batch, at, read.error()) == Went::end) return Went::end;
      if (read.error().code == Code::corrupt) ++at;
      continue;
    }
    if (fill([&] { return filler_.copy({batch.region, unit}, bytes); }) == Went::end) return Went::end;
    count(region.unit_bytes());
  }
  return Went::on;
}

void Prefetch::count(std::uint64_t bytes) {
  progress_.bytes_read.fetch_add(bytes, std::memory_order_relaxed);
  progress_.pages_prefetched.fetch_add(bytes / page_size_bytes, std::memory_order_relaxed);
  std::uint64_t cap = progress_.bandwidth_bytes_s.load(std::memory_order_relaxed);
  if (cap == 0) return;
  auto cost =
      std::chrono::nanoseconds(static_cast<std::int64_t>(static_cast<double>(bytes) / static_cast<double>(cap) * 1e9));
  std::lock_guard guard(pace_lock_);
  may_go_on_ = std::max(may_go_on_, steady_clock::now() - milliseconds(20)) + cost;
}

}  // namespace agent
