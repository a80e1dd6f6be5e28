// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fault_in.h"

#include <linux/userfaultfd.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "priority.h"

namespace agent {

using ckpt::page_size_bytes;
using ckpt::Result;
using std::chrono::steady_clock;

namespace {

constexpr auto retry_interval = std::chrono::milliseconds(50);
// 64 KiB: what cut the number of faults to a thirteenth without costing a noticeable time.
constexpr std::uint64_t near_pages = 16;
// From a far store they come with the page when nobody else brings them, and are no more than this: through 100 Mb/s
// that takes as long as another request would.
constexpr std::size_t near_request_bytes = 32 << 10;
// In one call, for who comes meanwhile waits for its end.
constexpr std::size_t ahead_pages = 4;
// Without a fault, until more is fetched than came with the page: before, who was served would wait for it on a busy
// host.
constexpr std::chrono::nanoseconds quiet_time = std::chrono::microseconds(100);
// Of faults: this thread goes before all others, so what it does unasked must be short.
constexpr std::size_t ahead_limit = 2;
// As many as ahead_ may want, and some that are wanted again.
constexpr std::size_t frames_kept = 16;

std::uint64_t us_since(steady_clock::time_point since) {
  auto elapsed = steady_clock::now() - since;
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
}

}  // namespace

FaultIn::FaultIn(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set,
                 Hints& hints, Flow& flow, Stop& stop)
    : map_(map),
      filler_(filler),
      source_(source),
      progress_(progress),
      working_set_(working_set),
      hints_(hints),
      flow_(flow),
      stop_(stop),
      loader_(source, frames_kept) {}

void FaultIn::run() {
  hurry_this_thread();
  sharpen_sleeps_of_this_thread();
  none_at_ = steady_clock::now();
  while (!stop_.requested()) {
    if (take_messages() || (!stuck_.empty() && none_at_ >= retry_at_)) {
      quiet_ = false;
      if (!serve_waiting()) return;
    } else if (!read_ahead()) {
      sleep();
    }
  }
}

void FaultIn::sleep() {
  pollfd items[2] = {{stop_.descriptor(), POLLIN, 0}, {filler_.descriptor(), POLLIN, 0}};
  auto limit = ahead_.empty() ? std::chrono::nanoseconds(retry_interval) : quiet_time;
  timespec time{0, static_cast<long>(limit.count())};
  bool endless = ahead_.empty() && stuck_.empty();
  quiet_ = ppoll(items, 2, endless ? nullptr : &time, nullptr) == 0;
  none_at_ = steady_clock::now();
}

bool FaultIn::take_messages() {
  std::array<uffd_msg, 64> messages;
  auto now = steady_clock::now();
  ssize_t n = ::read(filler_.descriptor(), messages.data(), sizeof(messages));
  // It came after the last look, at worst just then.
  auto since = none_at_;
  if (n < static_cast<ssize_t>(sizeof(messages))) none_at_ = now;
  if (n <= 0) return false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n) / sizeof(uffd_msg); ++i) {
    if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
    auto id = map_.find(messages[i].arg.pagefault.address);
    if (!id) continue;
    if (progress_.faults.fetch_add(1, std::memory_order_relaxed) == 0) progress_.mark("first_fault");
    auto thread = static_cast<pid_t>(messages[i].arg.pagefault.feat.ptid);
    auto same = [&](const Waiting& waiting) { return waiting.id == *id && waiting.thread == thread; };
    if (std::any_of(waiting_.begin(), waiting_.end(), same) || std::any_of(stuck_.begin(), stuck_.end(), same))
      continue;
    waiting_.push_back({*id, thread, since});
    progress_.service.wait_begins(thread, since);
  }
  progress_.faults_pending.store(waiting_.size() + stuck_.size(), std::memory_order_relaxed);
  return true;
}

bool FaultIn::serve_waiting() {
  if (!stuck_.empty() && none_at_ >= retry_at_) {
    waiting_.insert(waiting_.end(), stuck_.begin(), stuck_.end());
    stuck_.clear();
  }
  for (const Waiting& waiting : waiting_) {
    switch (serve(waiting)) {
      case Served::yes:
        progress_.fault_us.add(us_since(waiting.since));
        progress_.service.wait_ends(waiting.thread, steady_clock::now());
        break;
      case Served::not_now:
        stuck_.push_back(waiting);
        retry_at_ = steady_clock::now() + retry_interval;
        break;
      case Served::gone:
        return false;
    }
  }
  waiting_.clear();
  progress_.faults_pending.store(stuck_.size(), std::memory_order_relaxed);
  return true;
}

Result<Fill> FaultIn::fill_page(const UnitId& id, bool& zero) {
  Region& region = map_.region(id);
  std::uint64_t first = id.unit / leaf_pages * leaf_pages;
  CKPT_ASSIGN(Places around, loader_.places(region.object(), first, std::min(first + leaf_pages, region.units())));
  auto at = std::lower_bound(around.pages.begin(), around.pages.end(), id.unit,
                             [](const ckpt::PagePlace& page, std::uint64_t wanted) { return page.page < wanted; });
  zero = at == around.pages.end() || at->page != id.unit;
  Fill fill;
  if (zero) {
    fill = filler_.zero(id, 1);
  } else {
    auto end = at + 1;
    const std::uint64_t near_end = (id.unit / near_pages + 1) * near_pages;
    const bool with_near = flow_.far() && progress_.mode() == Mode::lazy;
    while (with_near && end != around.pages.end() && end->page < near_end) ++end;
    auto bytes = loader_.read(around, static_cast<std::size_t>(at - around.pages.begin()),
                              static_cast<std::size_t>(end - at), with_near ? near_request_bytes : 0);
    flow_.note_fault_in(loader_.requests());
    CKPT_ASSIGN(auto pages, std::move(bytes));
    fill = filler_.copy(id, {pages.front(), page_size_bytes});
  }
  ahead_.push_front({id, std::move(around)});
  if (ahead_.size() > ahead_limit) ahead_.pop_back();
  return fill;
}

Result<Fill> FaultIn::fill_huge(const UnitId& id) {
  Region& region = map_.region(id);
  huge_.resize(region.unit_bytes());
  CKPT_TRY(source_.read(region.object(), id.unit * region.unit_bytes(), huge_));
  return filler_.copy(id, huge_);
}

FaultIn::Served FaultIn::serve(const Waiting& waiting) {
  Region& region = map_.region(waiting.id);
  if (region.present(waiting.id.unit)) {
    // Filled after its message had been sent: who waits has been woken, or has come too late for it.
    filler_.wake(waiting.id, 1);
    return Served::yes;
  }
  bool zero = false;
  progress_.begin_read();
  auto fill = region.unit_bytes() == page_size_bytes ? fill_page(waiting.id, zero) : fill_huge(waiting.id);
  progress_.end_read();
  if (!fill.ok()) {
    progress_.store_errors.fetch_add(1, std::memory_order_relaxed);
    progress_.set_obstacle(Obstacle::store, fill.error().message());
    auto reopened = source_.reopen(fill.error());
    if (!reopened.ok()) progress_.set_obstacle(Obstacle::store, reopened.error().message());
    return Served::not_now;
  }
  if (*fill == Fill::gone) return Served::gone;
  if (*fill == Fill::retry) {
    progress_.set_obstacle(Obstacle::host, "the kernel has no memory for the machine's pages now");
    return Served::not_now;
  }
  progress_.clear_obstacle();
  std::uint64_t pages = region.unit_bytes() / page_size_bytes;
  progress_.pages_faulted.fetch_add(pages, std::memory_order_relaxed);
  working_set_.record(region.block().name, waiting.id.unit * pages);
  if (!zero) {
    progress_.bytes_read.fetch_add(region.unit_bytes(), std::memory_order_relaxed);
    hints_.push(waiting.id);
  }
  return Served::yes;
}

bool FaultIn::read_ahead() {
  auto ahead = std::find_if(ahead_.begin(), ahead_.end(), [&](const Ahead& one) { return !one.rest || quiet_; });
  if (ahead == ahead_.end()) return false;
  if (!fill_next(*ahead)) ahead_.erase(ahead);
  return true;
}

bool FaultIn::fill_next(Ahead& ahead) {
  Region& region = map_.region(ahead.id);
  std::uint64_t first = ahead.id.unit / near_pages * near_pages;
  std::uint64_t end = std::min(first + near_pages, region.units());
  auto& pages = ahead.around.pages;
  auto wanted = [&](std::size_t i) {
    if (region.present(pages[i].page)) return false;
    if (!ahead.rest || flow_.far()) return loader_.has(ahead.around, i);
    return pages[i].page >= first && pages[i].page < end;
  };
  std::size_t at = 0;
  while (at < pages.size() && !wanted(at)) ++at;
  if (at < pages.size()) {
    auto bytes = loader_.read(ahead.around, at, ahead_pages, 0);
    if (!bytes.ok()) return false;
    std::uint64_t filled = 0;
    Fill fill = filler_.copy_missing(ahead.id.region, std::span(pages).subspan(at), *bytes, filled);
    progress_.pages_read_ahead.fetch_add(filled, std::memory_order_relaxed);
    progress_.bytes_read.fetch_add(filled * page_size_bytes, std::memory_order_relaxed);
    return fill == Fill::ok;
  }
  if (!ahead.rest) return ahead.rest = true;
  auto zero = [&](std::uint64_t page) {
    auto at = std::lower_bound(pages.begin(), pages.end(), page,
                               [](const ckpt::PagePlace& one, std::uint64_t wanted) { return one.page < wanted; });
    return (at == pages.end() || at->page != page) && !region.present(page);
  };
  while (first < end && !zero(first)) ++first;
  std::uint64_t run = 0;
  while (first + run < end && zero(first + run)) ++run;
  if (run == 0 || filler_.zero({ahead.id.region, first}, run) != Fill::ok) return false;
  progress_.pages_read_ahead.fetch_add(run, std::memory_order_relaxed);
  return true;
}

}  // namespace agent
