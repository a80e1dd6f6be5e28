// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What memory itself costs.
//   raw_memory copy PAGES MEMORY_MIB ROUNDS   memcpy of so many scattered pages to one place: microseconds, one a line
//   raw_memory fill WAY BYTES CALL_KIB THREADS   missing memory filled by calls of that size: seconds. WAY: copy, by
//                                             UFFDIO_COPY; huge, the same into huge pages; continue, by UFFDIO_CONTINUE
//   raw_memory unpack IMAGES THREADS          the pages of a guest, compressed in memory, decompressed: "SECONDS BYTES"
//   raw_memory unpack-fill IMAGES THREADS     and each frame brought into missing memory by UFFDIO_COPY
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
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

// Missing memory, and a way to fill it from `source`, which holds as much as one call takes.
class Missing {
public:
  virtual ~Missing() = default;
  virtual void fill(std::uint64_t at, const std::uint8_t* source, std::uint64_t bytes) = 0;
};

// UFFDIO_COPY into private memory, as QEMU's is: of pages of 4 KiB, or of huge ones that somebody has set aside.
class Copied : public Missing {
public:
  Copied(std::uint64_t bytes, bool huge) {
    memory_ = huge ? bench::map_shared(bench::memory_file(bytes, huge), bytes) : bench::map_memory(bytes);
    bench::register_missing(userfault_, memory_, bytes);
  }

  void fill(std::uint64_t at, const std::uint8_t* source, std::uint64_t bytes) override {
    bench::copy_into(userfault_, memory_ + at, source, bytes);
  }

private:
  int userfault_ = bench::open_userfault();
  std::uint8_t* memory_;
};

// A file of memory that two have mapped: one writes the page, and UFFDIO_CONTINUE lets the other have it.
class Continued : public Missing {
public:
  explicit Continued(std::uint64_t bytes) {
    int file = bench::memory_file(bytes, false);
    written_ = bench::map_shared(file, bytes);
    memory_ = bench::map_shared(file, bytes);
    uffdio_register request{};
    request.range = {reinterpret_cast<std::uint64_t>(memory_), bytes};
    request.mode = UFFDIO_REGISTER_MODE_MINOR;
    if (ioctl(userfault_, UFFDIO_REGISTER, &request) != 0) bench::fail("UFFDIO_REGISTER");
  }

  void fill(std::uint64_t at, const std::uint8_t* source, std::uint64_t bytes) override {
    std::memcpy(written_ + at, source, bytes);
    uffdio_continue request{};
    request.range = {reinterpret_cast<std::uint64_t>(memory_ + at), bytes};
    if (ioctl(userfault_, UFFDIO_CONTINUE, &request) != 0) bench::fail("UFFDIO_CONTINUE");
  }

private:
  int userfault_ = bench::open_userfault(UFFD_FEATURE_MINOR_SHMEM);
  std::uint8_t* written_;
  std::uint8_t* memory_;
};

std::unique_ptr<Missing> missing(const std::string& way, std::uint64_t bytes) {
  if (way == "continue") return std::make_unique<Continued>(bytes);
  return std::make_unique<Copied>(bytes, way == "huge");
}

void fill(const std::string& way, std::uint64_t bytes, std::uint64_t call_bytes, unsigned threads) {
  auto memory = missing(way, bytes);
  // One call's worth: it stays in the cache, so this is the fastest that a source can be.
  std::vector<std::uint8_t> source(call_bytes, 7);
  std::vector<std::thread> workers;
  std::uint64_t share = bytes / threads / call_bytes * call_bytes;
  double start = bench::now_us();
  for (unsigned t = 0; t < threads; ++t)
    workers.emplace_back([&, t] {
      std::uint64_t end = t + 1 == threads ? bytes : (t + 1) * share;
      for (std::uint64_t at = t * share; at < end; at += call_bytes)
        memory->fill(at, source.data(), std::min(call_bytes, end - at));
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
  } else if (argc == 6 && std::string(argv[1]) == "fill" && number(4) > 0 && number(5) > 0) {
    std::uint64_t call_bytes = number(4) << 10;
    fill(argv[2], number(3) / call_bytes * call_bytes, call_bytes, static_cast<unsigned>(number(5)));
  } else if (argc == 4 && std::string(argv[1]).starts_with("unpack") && number(3) > 0) {
    unpack(argv[2], static_cast<unsigned>(number(3)), std::string(argv[1]) == "unpack-fill");
  } else {
    std::fprintf(stderr,
                 "usage: raw_memory copy PAGES MEMORY_MIB ROUNDS | fill copy|huge|continue BYTES CALL_KIB THREADS |\n"
                 "       unpack IMAGES THREADS | unpack-fill IMAGES THREADS\n");
    return 2;
  }
  return 0;
}
