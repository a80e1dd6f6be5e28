// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What memory itself costs.
//   raw_memory copy PAGES MEMORY_MIB ROUNDS   memcpy of so many scattered pages to one place: microseconds, one a line
//   raw_memory fill BYTES CALL_KIB THREADS    UFFDIO_COPY into missing memory by calls of that size: seconds
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include "guest_memory.h"

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

}  // namespace

int main(int argc, char** argv) {
  auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  if (argc == 5 && std::string(argv[1]) == "copy") {
    copy(number(2), number(3) << 20, static_cast<int>(number(4)));
  } else if (argc == 5 && std::string(argv[1]) == "fill" && number(3) > 0 && number(4) > 0) {
    fill(number(2) / page_bytes * page_bytes, number(3) << 10, static_cast<unsigned>(number(4)));
  } else {
    std::fprintf(stderr, "usage: raw_memory copy PAGES MEMORY_MIB ROUNDS | fill BYTES CALL_KIB THREADS\n");
    return 2;
  }
  return 0;
}
