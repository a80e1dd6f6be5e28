// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How long a thread waits that writes to a page protected with userfaultfd, by its own clock: what copy-before-write
// costs at least. Another thread copies the page away and lifts the protection.
//   write_faults MEMORY_MIB COUNT    so many pages in random order: microseconds, one a line
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "fault_loop.h"
#include "guest_memory.h"

namespace {

using bench::page_bytes;

void protect(int userfault, std::uint64_t address, std::uint64_t bytes, bool wanted) {
  uffdio_writeprotect request{};
  request.range = {address, bytes};
  request.mode = wanted ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  if (ioctl(userfault, UFFDIO_WRITEPROTECT, &request) != 0) bench::fail("UFFDIO_WRITEPROTECT");
}

void serve(int userfault, const std::atomic<bool>& stop) {
  std::array<std::uint8_t, page_bytes> copy;
  bench::serve_faults(userfault, stop, [&](std::uint64_t address) {
    std::memcpy(copy.data(), reinterpret_cast<const void*>(address), page_bytes);
    // Or the copy would be left out.
    __asm__ volatile("" ::"r"(copy.data()) : "memory");
    protect(userfault, address, page_bytes, false);
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t bytes = argc == 3 ? std::strtoull(argv[1], nullptr, 10) << 20 : 0;
  std::size_t count = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (bytes == 0 || count == 0 || count > bytes / page_bytes) {
    std::fprintf(stderr, "usage: write_faults MEMORY_MIB COUNT\n");
    return 2;
  }
  std::uint8_t* memory = bench::map_memory(bytes);
  std::memset(memory, 1, bytes);
  int userfault = bench::open_userfault();
  uffdio_register request{};
  request.range = {reinterpret_cast<std::uint64_t>(memory), bytes};
  request.mode = UFFDIO_REGISTER_MODE_WP;
  if (ioctl(userfault, UFFDIO_REGISTER, &request) != 0) bench::fail("UFFDIO_REGISTER");
  protect(userfault, request.range.start, bytes, true);

  std::vector<std::uint64_t> pages(bytes / page_bytes);
  for (std::size_t i = 0; i < pages.size(); ++i) pages[i] = i;
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(1));
  std::atomic<bool> stop = false;
  std::thread server([&] { serve(userfault, stop); });
  std::vector<double> samples;
  for (std::size_t i = 0; i < count; ++i) {
    double start = bench::now_us();
    *static_cast<volatile std::uint8_t*>(memory + pages[i] * page_bytes) = 2;
    samples.push_back(bench::now_us() - start);
  }
  stop = true;
  server.join();
  for (double sample : samples) std::printf("%.2f\n", sample);
  return 0;
}
