// SPDX-License-Identifier: LGPL-2.1-or-later
#include "presence.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "os/fd.h"

namespace agent {

namespace {

// /proc/PID/pagemap: bit 63 present, bit 62 swapped out. Under a userfaultfd both come from a fill only.
constexpr std::uint64_t there = 3ull << 62;
constexpr std::size_t entries_at_once = 8192;

}  // namespace

std::uint64_t find_present(pid_t pid, MemoryMap& map) {
  os::Fd pagemap(::open(("/proc/" + std::to_string(pid) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap) return 0;
  const auto host_page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::vector<std::uint64_t> entries(entries_at_once);
  std::uint64_t found = 0;
  for (auto& region : map.regions()) {
    const std::uint64_t pages_per_unit = region->unit_bytes() / host_page;
    const std::uint64_t pages = region->units() * pages_per_unit;
    for (std::uint64_t page = 0; page < pages;) {
      std::size_t count = std::min<std::uint64_t>(entries_at_once, pages - page);
      std::uint64_t place = (region->address(0) / host_page + page) * sizeof(std::uint64_t);
      ssize_t n = pread(pagemap.get(), entries.data(), count * sizeof(std::uint64_t), static_cast<off_t>(place));
      if (n < static_cast<ssize_t>(sizeof(std::uint64_t))) break;
      count = static_cast<std::size_t>(n) / sizeof(std::uint64_t);
      for (std::size_t i = 0; i < count; ++i) {
        // A unit is mapped as a whole, so its first page speaks for it.
        bool first_of_unit = (page + i) % pages_per_unit == 0;
        if (first_of_unit && (entries[i] & there) && region->set_present((page + i) / pages_per_unit))
          found += region->unit_bytes() / ckpt::page_size_bytes;
      }
      page += count;
    }
  }
  return found;
}

}  // namespace agent
