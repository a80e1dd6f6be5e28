// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Puts bytes into another process's memory through its userfaultfd, and keeps count of what is there.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "memory_map.h"
#include "os/fd.h"

namespace agent {

enum class Fill {
  ok,     // all of it is there
  gone,   // the process has ended
  retry,  // the kernel could not do it now (its memory map is changing, no memory): try again
};

class Filler {
public:
  Filler(MemoryMap& map, os::Fd userfault) : map_(map), userfault_(std::move(userfault)) {}

  int descriptor() const { return userfault_.get(); }

  // `data` is whole units, from `first` on. Units that are there already keep what they have.
  Fill copy(const UnitId& first, std::span<const std::uint8_t> data);
  Fill zero(const UnitId& first, std::uint64_t units);
  // Pages of a region whose units are pages, with their bytes: those that are missing, which are added to `filled`.
  Fill copy_missing(std::uint32_t region, std::span<const ckpt::PagePlace> pages,
                    std::span<const std::uint8_t* const> bytes, std::uint64_t& filled);
  // For a unit that is there: whoever waits for it looks again.
  void wake(const UnitId& first, std::uint64_t units);
  void wake_all();

  // 4 KiB pages that have been filled, or found to be there, by this agent.
  void add_present(std::uint64_t pages) { present_pages_.fetch_add(pages, std::memory_order_relaxed); }
  std::uint64_t present_pages() const { return present_pages_.load(std::memory_order_relaxed); }

private:
  void mark(const UnitId& first, std::uint64_t units);
  Fill fill(const UnitId& first, std::uint64_t units, const std::uint8_t* data);

  MemoryMap& map_;
  os::Fd userfault_;
  std::atomic<std::uint64_t> present_pages_{0};
};

}  // namespace agent
