// SPDX-License-Identifier: LGPL-2.1-or-later
#include "filler.h"

#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace agent {

namespace {

constexpr unsigned retry_limit = 100;

enum class Step { done, part, present, unmapped, retry, gone };

// One ioctl. `filled` is what it did of `length`.
Step step(int fd, std::uint64_t address, const std::uint8_t* data, std::uint64_t length, std::uint64_t& filled) {
  std::int64_t result;
  int failed;
  if (data) {
    uffdio_copy request{};
    request.dst = address;
    request.src = reinterpret_cast<std::uint64_t>(data);
    request.len = length;
    failed = ioctl(fd, UFFDIO_COPY, &request);
    result = request.copy;
  } else {
    uffdio_zeropage request{};
    request.range = {address, length};
    failed = ioctl(fd, UFFDIO_ZEROPAGE, &request);
    result = request.zeropage;
  }
  if (!failed) return Step::done;
  switch (errno) {
    case EAGAIN:
      // Stopped on the way; what stopped it comes back as the error of the next call.
      filled = result > 0 ? static_cast<std::uint64_t>(result) : 0;
      return filled ? Step::part : Step::retry;
    case EEXIST:
      return Step::present;
    case ENOENT:
      return Step::unmapped;
    case ESRCH:
      return Step::gone;
    default:
      return Step::retry;
  }
}

}  // namespace

void Filler::mark(const UnitId& first, std::uint64_t units) {
  Region& region = map_.region(first);
  std::uint64_t added = 0;
  for (std::uint64_t i = 0; i < units; ++i) added += region.set_present(first.unit + i);
  present_pages_.fetch_add(added * (region.unit_bytes() / ckpt::page_size_bytes), std::memory_order_relaxed);
}

void Filler::wake(const UnitId& first, std::uint64_t units) {
  Region& region = map_.region(first);
  uffdio_range range{region.address(first.unit), units * region.unit_bytes()};
  // Fails for a range that has been unplugged, where nobody waits.
  (void)ioctl(userfault_.get(), UFFDIO_WAKE, &range);
}

void Filler::wake_all() {
  auto& regions = map_.regions();
  for (std::uint32_t i = 0; i < regions.size(); ++i) wake({i, 0}, regions[i]->units());
}

Fill Filler::fill(const UnitId& first, std::uint64_t units, const std::uint8_t* data) {
  Region& region = map_.region(first);
  const std::uint64_t unit_bytes = region.unit_bytes();
  std::uint64_t done = 0;
  std::uint64_t at_once = units;
  unsigned tries = 0;
  while (done < units) {
    UnitId at{first.region, first.unit + done};
    std::uint64_t filled = 0;
    switch (step(userfault_.get(), region.address(at.unit), data ? data + done * unit_bytes : nullptr,
                 std::min(at_once, units - done) * unit_bytes, filled)) {
      case Step::done:
        filled = std::min(at_once, units - done) * unit_bytes;
        [[fallthrough]];
      case Step::part:
        mark(at, filled / unit_bytes);
        done += filled / unit_bytes;
        break;
      case Step::present:
        mark(at, 1);
        wake(at, 1);
        ++done;
        break;
      case Step::unmapped:
        // Some of it has been unplugged: one by one. Nobody can wait for what is not there.
        if (at_once == 1) {
          mark(at, 1);
          ++done;
        }
        at_once = 1;
        break;
      case Step::retry:
        // Mostly the machine's memory map is changing just now, which is over soon.
        if (++tries == retry_limit) return Fill::retry;
        sched_yield();
        break;
      case Step::gone:
        return Fill::gone;
    }
  }
  return Fill::ok;
}

Fill Filler::copy(const UnitId& first, std::span<const std::uint8_t> data) {
  return fill(first, data.size() / map_.region(first).unit_bytes(), data.data());
}

Fill Filler::copy_missing(std::uint32_t region, std::span<const ckpt::PagePlace> pages,
                          std::span<const std::uint8_t* const> bytes, std::uint64_t& filled) {
  constexpr std::uint64_t page_bytes = ckpt::page_size_bytes;
  for (std::size_t i = 0, run; i < bytes.size(); i += run) {
    run = 1;
    if (map_.regions()[region]->present(pages[i].page)) continue;
    auto follows = [&](std::size_t next) {
      return pages[next].page == pages[i].page + run && bytes[next] == bytes[i] + run * page_bytes &&
             !map_.regions()[region]->present(pages[next].page);
    };
    while (i + run < bytes.size() && follows(i + run)) ++run;
    Fill result = fill({region, pages[i].page}, run, bytes[i]);
    if (result != Fill::ok) return result;
    filled += run;
  }
  return Fill::ok;
}

Fill Filler::zero(const UnitId& first, std::uint64_t units) {
  const std::uint64_t unit_bytes = map_.region(first).unit_bytes();
  if (unit_bytes == ckpt::page_size_bytes) return fill(first, units, nullptr);
  // The kernel has no zero page for huge pages.
  static const std::vector<std::uint8_t> zeroes(2 << 20);
  std::vector<std::uint8_t> larger;
  const std::uint8_t* source = zeroes.data();
  if (unit_bytes > zeroes.size()) {
    larger.resize(unit_bytes);
    source = larger.data();
  }
  for (std::uint64_t i = 0; i < units; ++i) {
    Fill result = fill({first.region, first.unit + i}, 1, source);
    if (result != Fill::ok) return result;
  }
  return Fill::ok;
}

}  // namespace agent
