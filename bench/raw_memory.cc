// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What memory itself costs.
//   raw_memory copy PAGES MEMORY_MIB ROUNDS   memcpy of so many scattered pages to one place: microseconds, one a line
//   raw_memory fill BYTES CALL_KIB THREADS    UFFDIO_COPY into missing memory by calls of that size: seconds
//   raw_memory unpack IMAGES THREADS          the pages of a guest, compressed in memory, decompressed: "SECONDS BYTES"
//   raw_memory unpack-fill IMAGES THREADS     and each frame brought into missing memory by UFFDIO_COPY
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include "guest_memory.h"
#include "packed_pages.h"

namespace {

using bench::page_bytes;

void copy(std::uint64_t pages, std::uint64_t memory_bytes, int rounds) {
  std::uint8_t* memory = bench::map_memory(memory_bytes);
  std::uint8_t* target = bench::map_memory(std::max<std::uint64_t>(pages, 1) * page_bytes);
  std::memset(memory, 1, memory_bytes);
  std::memset(target, 1, std::max<std::uint64_t>(pages, 1) * page_bytes);
  std::mt19937_64 engine(1);
  std::vector<std::uint64_t> order(pages);
  for (int round = 0; round < rounds; ++round) {
    for (auto& page : order) page = engine() % (memory_bytes / page_bytes);
    std::sort(order.begin(), order.end());  // as a bitmap gives them
    double start = bench::now_us();
    for (std::uint64_t i = 0; i < pages; ++i)
      std::memcpy(target + i * page_bytes, memory + order[i] * page_bytes, page_bytes);
    std::printf("%.2f\n", bench::now_us() - start);
  }
}

void fill(std::uint64_t bytes, std::uint64_t call_bytes, unsigned threads) {
  int userfault = bench::open_userfault();
  std::uint8_t* memory = bench::map_memory(bytes);
  bench::register_missing(userfault, memory, bytes);
  // One call's worth: it stays in the cache, so this is the fastest that a source can be.
  std::vector<std::uint8_t> source(call_bytes, 7);
  std::vector<std::thread> workers;
  std::uint64_t share = bytes / threads / page_bytes * page_bytes;
  double start = bench::now_us();
  for (unsigned t = 0; t < threads; ++t)
    workers.emplace_back([&, t] {
      std::uint64_t end = t + 1 == threads ? bytes : (t + 1) * share;
      for (std::uint64_t at = t * share; at < end; at += call_bytes)
        bench::copy_into(userfault, memory + at, source.data(), std::min(call_bytes, end - at));
    });
  for (auto& worker : workers) worker.join();
  std::printf("%.6f\n", (bench::now_us() - start) / 1e6);
}

void unpack(const std::string& images, unsigned threads, bool fill) {
  bench::GuestMemory memory(images);
  const bench::Block& block = memory.largest();
  bench::PackedPages packed(block);
  const auto& frames = packed.frames();
  // As a fetcher takes them: batches, from one place.
  constexpr std::size_t batch = 128;
  std::atomic<std::size_t> next = 0;
  auto work = [&] {
    for (std::size_t at; (at = next.fetch_add(batch)) < frames.size();)
      for (std::size_t i = at; i < std::min(at + batch, frames.size()); ++i) {
        const std::uint8_t* raw = bench::PackedPages::unpack(frames[i]);
        const auto& pages = frames[i].pages;
        for (std::size_t first = 0, run; fill && first < pages.size(); first += run) {
          run = 1;
          while (first + run < pages.size() && pages[first + run] == pages[first] + run) ++run;
          bench::copy_into(memory.userfault(), block.memory + pages[first] * page_bytes, raw + first * page_bytes,
                           run * page_bytes);
        }
      }
  };
  std::vector<std::thread> workers;
  double start = bench::now_us();
  for (unsigned t = 0; t < threads; ++t) workers.emplace_back(work);
  for (auto& worker : workers) worker.join();
  std::printf("%.6f %llu\n", (bench::now_us() - start) / 1e6,
              static_cast<unsigned long long>(bench::data_pages(block).size() * page_bytes));
}

}  // namespace

int main(int argc, char** argv) {
  auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  if (argc == 5 && std::string(argv[1]) == "copy") {
    copy(number(2), number(3) << 20, static_cast<int>(number(4)));
  } else if (argc == 5 && std::string(argv[1]) == "fill" && number(3) > 0 && number(4) > 0) {
    fill(number(2) / page_bytes * page_bytes, number(3) << 10, static_cast<unsigned>(number(4)));
  } else if (argc == 4 && std::string(argv[1]).starts_with("unpack") && number(3) > 0) {
    unpack(argv[2], static_cast<unsigned>(number(3)), std::string(argv[1]) == "unpack-fill");
  } else {
    std::fprintf(stderr,
                 "usage: raw_memory copy PAGES MEMORY_MIB ROUNDS | fill BYTES CALL_KIB THREADS |\n"
                 "       unpack IMAGES THREADS | unpack-fill IMAGES THREADS\n");
    return 2;
  }
  return 0;
}
