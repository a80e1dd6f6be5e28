// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fault_in.h"

#include <linux/userfaultfd.h>
#include <poll.h>

#include <algorithm>
#include <array>

namespace agent {

using ckpt::page_size_bytes;
using ckpt::Result;
using std::chrono::steady_clock;

namespace {

constexpr int retry_ms = 50;
// 64 KiB: what cut the number of faults to a thirteenth without costing a noticeable time.
constexpr std::uint64_t read_ahead_units = 16;

std::uint64_t us_since(steady_clock::time_point since) {
  auto elapsed = steady_clock::now() - since;
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
}

}  // namespace

FaultIn::FaultIn(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set,
                 Hints& hints, Stop& stop)
    : map_(map),
      filler_(filler),
      source_(source),
      progress_(progress),
      working_set_(working_set),
      hints_(hints),
      stop_(stop) {}

void FaultIn::run() {
  while (!stop_.requested()) {
    // A message that is there already came while another was served: at worst just after the last look.
    bool there = more_messages();
    if (!there) {
      pollfd items[2] = {{stop_.descriptor(), POLLIN, 0}, {filler_.descriptor(), POLLIN, 0}};
      poll(items, 2, waiting_.empty() ? -1 : retry_ms);
    }
    if (stop_.requested()) return;
    take_messages(there ? none_at_ : steady_clock::now());
    if (!serve_waiting()) return;
    for (std::size_t i = 0; i < served_.size() && !stop_.requested(); ++i) {
      // Whoever waits now goes first.
      if (more_messages()) break;
      read_ahead(served_[i]);
    }
    served_.clear();
  }
}

bool FaultIn::more_messages() {
  auto now = steady_clock::now();
  pollfd item{filler_.descriptor(), POLLIN, 0};
  if (poll(&item, 1, 0) > 0) return true;
  none_at_ = now;
  return false;
}

void FaultIn::take_messages(steady_clock::time_point since) {
  std::array<uffd_msg, 64> messages;
  auto now = steady_clock::now();
  ssize_t n = ::read(filler_.descriptor(), messages.data(), sizeof(messages));
  if (n < static_cast<ssize_t>(sizeof(messages))) none_at_ = now;
  for (std::size_t i = 0; n > 0 && i < static_cast<std::size_t>(n) / sizeof(uffd_msg); ++i) {
    if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
    auto id = map_.find(messages[i].arg.pagefault.address);
    if (!id) continue;
    if (progress_.faults.fetch_add(1, std::memory_order_relaxed) == 0) progress_.mark("first_fault");
    auto thread = static_cast<pid_t>(messages[i].arg.pagefault.feat.ptid);
    bool known = std::any_of(waiting_.begin(), waiting_.end(),
                             [&](const Waiting& waiting) { return waiting.id == *id && waiting.thread == thread; });
    if (known) continue;
    waiting_.push_back({*id, thread, since});
    progress_.service.wait_begins(thread, since);
  }
  progress_.faults_pending.store(waiting_.size(), std::memory_order_relaxed);
}

bool FaultIn::serve_waiting() {
  std::vector<Waiting> left;
  for (const Waiting& waiting : waiting_) {
    switch (serve(waiting)) {
      case Served::yes:
        progress_.fault_us.add(us_since(waiting.since));
        progress_.service.wait_ends(waiting.thread, steady_clock::now());
        break;
      case Served::not_now:
        left.push_back(waiting);
        break;
      case Served::gone:
        return false;
    }
  }
  waiting_ = std::move(left);
  progress_.faults_pending.store(waiting_.size(), std::memory_order_relaxed);
  return true;
}

Result<bool> FaultIn::read_unit(const UnitId& id) {
  Region& region = map_.region(id);
  unit_.resize(region.unit_bytes());
  if (region.unit_bytes() == page_size_bytes) {
    auto page = std::span<std::uint8_t, page_size_bytes>(unit_.data(), page_size_bytes);
    CKPT_ASSIGN(bool data, source_.read_page(region.object(), id.unit, page));
    return !data;
  }
  CKPT_TRY(source_.read(region.object(), id.unit * region.unit_bytes(), unit_));
  return false;
}

FaultIn::Served FaultIn::serve(const Waiting& waiting) {
  Region& region = map_.region(waiting.id);
  if (region.present(waiting.id.unit)) {
    // Filled after its message had been sent: who waits has been woken, or has come too late for it.
    filler_.wake(waiting.id, 1);
    return Served::yes;
  }
  auto zero = read_unit(waiting.id);
  if (!zero.ok()) {
    progress_.store_errors.fetch_add(1, std::memory_order_relaxed);
    progress_.set_obstacle(Obstacle::store, zero.error().message());
    auto reopened = source_.reopen(zero.error());
    if (!reopened.ok()) progress_.set_obstacle(Obstacle::store, reopened.error().message());
    return Served::not_now;
  }
  Fill fill = *zero ? filler_.zero(waiting.id, 1) : filler_.copy(waiting.id, unit_);
  if (fill == Fill::gone) return Served::gone;
  if (fill == Fill::retry) {
    progress_.set_obstacle(Obstacle::host, "the kernel has no memory for the machine's pages now");
    return Served::not_now;
  }
  progress_.clear_obstacle();
  std::uint64_t pages = region.unit_bytes() / page_size_bytes;
  progress_.pages_faulted.fetch_add(pages, std::memory_order_relaxed);
  if (!*zero) {
    progress_.bytes_read.fetch_add(region.unit_bytes(), std::memory_order_relaxed);
    working_set_.record(region.block().name, waiting.id.unit * pages);
    hints_.push(waiting.id);
  }
  served_.push_back(waiting.id);
  return Served::yes;
}

void FaultIn::read_ahead(const UnitId& id) {
  Region& region = map_.region(id);
  if (region.unit_bytes() != page_size_bytes) return;
  std::uint64_t first = id.unit / read_ahead_units * read_ahead_units;
  std::uint64_t end = std::min(first + read_ahead_units, region.units());
  for (std::uint64_t unit = first; unit < end; ++unit) {
    if (region.present(unit)) continue;
    if (more_messages()) return;
    UnitId beside{id.region, unit};
    auto zero = read_unit(beside);
    if (!zero.ok()) return;
    if ((*zero ? filler_.zero(beside, 1) : filler_.copy(beside, unit_)) != Fill::ok) return;
    progress_.pages_read_ahead.fetch_add(1, std::memory_order_relaxed);
    if (!*zero) progress_.bytes_read.fetch_add(page_size_bytes, std::memory_order_relaxed);
  }
}

}  // namespace agent
