// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How long a thread waits that touches missing memory, by its own clock; one number of microseconds a line.
//   faults raw thread|process IMAGES THREADS COUNT   served with a page that lies ready, by a thread or another process
//   faults raw packed IMAGES THREADS COUNT           by another process, which has it in a compressed frame in memory
//   faults agent SOCKET IMAGES THREADS COUNT         served by restore-agent
//   faults process IMAGES THREADS COUNT OUT          in plain memory, by a process that waits for SIGUSR1 first: to be
//   taken away and brought back by others; the numbers go to a file OUT, which is there when they all are
//   faults fill SOCKET IMAGES                        all of it brought by restore-agent: "SECONDS BYTES", content
//   checked
// IMAGES is a directory of files ram+NAME. Pages that are not zero are touched in random order, each once, and
// compared.
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <thread>

#include "fault_loop.h"
#include "guest_memory.h"
#include "packed_pages.h"
#include "restore_client.h"

namespace {

using bench::Block;
using bench::GuestMemory;
using bench::PackedPages;
using bench::page_bytes;

class Toucher {
public:
  Toucher(const Block& block, unsigned threads, std::size_t count) : block_(block), count_(count), samples_(threads) {
    pages_ = bench::data_pages(block);
    std::shuffle(pages_.begin(), pages_.end(), std::mt19937_64(1));
  }

  void run() {
    std::vector<std::thread> threads;
    for (auto& samples : samples_) threads.emplace_back([this, &samples] { touch(samples); });
    for (auto& thread : threads) thread.join();
  }

  void print(std::FILE* out) const {
    for (const auto& samples : samples_)
      for (double sample : samples) std::fprintf(out, "%.2f\n", sample);
    std::fflush(out);
  }

private:
  void touch(std::vector<double>& samples) {
    for (;;) {
      std::size_t at = next_.fetch_add(1);
      if (at >= pages_.size() || faults_ >= count_) return;
      std::uint8_t* page = block_.memory + pages_[at] * page_bytes;
      // Read ahead, or prefetched: nobody waits for it, so it is no sample.
      unsigned char present = 0;
      if (mincore(page, page_bytes, &present) != 0) bench::fail("mincore");
      if (present & 1) continue;
      double start = bench::now_us();
      (void)*static_cast<volatile std::uint8_t*>(page);
      samples.push_back(bench::now_us() - start);
      ++faults_;
      if (std::memcmp(page, block_.image + pages_[at] * page_bytes, page_bytes) != 0)
        bench::fail_plain("page " + std::to_string(pages_[at]) + " has the wrong content");
    }
  }

  const Block& block_;
  std::size_t count_;
  std::vector<std::uint64_t> pages_;
  std::vector<std::vector<double>> samples_;
  std::atomic<std::size_t> next_ = 0, faults_ = 0;
};

// The least that any handler must do. `packed`: where the pages come from; null: from the image.
void serve_raw(const Block& block, int userfault, const PackedPages* packed, const std::atomic<bool>& stop) {
  bench::serve_faults(userfault, stop, [&](std::uint64_t address) {
    std::uint64_t offset = address - reinterpret_cast<std::uint64_t>(block.memory);
    const std::uint8_t* page = block.image + offset;
    if (packed) {
      std::size_t index = 0;
      const auto& frame = packed->frame_of(offset / page_bytes, index);
      page = PackedPages::unpack(frame) + index * page_bytes;
    }
    bench::copy_into(userfault, block.memory + offset, page, page_bytes);
  });
}

void raw(const std::string& handler, const GuestMemory& memory, Toucher& toucher) {
  std::atomic<bool> stop = false;
  if (handler == "thread") {
    std::thread server([&] { serve_raw(memory.largest(), memory.userfault(), nullptr, stop); });
    toucher.run();
    stop = true;
    server.join();
    return;
  }
  std::optional<PackedPages> packed;
  if (handler == "packed") packed.emplace(memory.largest());
  // A descriptor that a child inherits still fills the parent's memory.
  pid_t child = fork();
  if (child < 0) bench::fail("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve_raw(memory.largest(), memory.userfault(), packed ? &*packed : nullptr, stop);
  }
  toucher.run();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

// From here on nothing is open but standard input, output and error.
void be_taken_away(Toucher& toucher, const std::string& path) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  int number = 0;
  std::puts("ready");
  std::fflush(stdout);
  if (sigwait(&signals, &number) != 0) bench::fail("sigwait");
  toucher.run();
  std::string unfinished = path + ".part";
  std::FILE* out = std::fopen(unfinished.c_str(), "w");
  if (!out) bench::fail(unfinished);
  toucher.print(out);
  std::fclose(out);
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) bench::fail(path);
}

int usage() {
  std::fprintf(stderr,
               "usage: faults raw thread|process|packed IMAGES THREADS COUNT\n"
               "       faults agent SOCKET IMAGES THREADS COUNT\n"
               "       faults process IMAGES THREADS COUNT OUT\n"
               "       faults fill SOCKET IMAGES\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::string what = argc > 3 ? argv[1] : "";
  if (what == "fill" && argc == 4) {
    GuestMemory memory(argv[3]);
    bench::RestoreClient client(argv[2], memory);
    double start = bench::now_us();
    client.wait_done();
    double seconds = (bench::now_us() - start) / 1e6;
    memory.check();
    std::printf("%.6f %llu\n", seconds, static_cast<unsigned long long>(memory.data_bytes()));
    return 0;
  }
  if ((what != "raw" && what != "agent" && what != "process") || argc != 6) return usage();
  bool taken_away = what == "process";
  char** numbers = argv + (taken_away ? 3 : 4);
  int threads = std::atoi(numbers[0]);
  long count = std::atol(numbers[1]);
  if (threads < 1 || threads > 64 || count < 1) return usage();
  GuestMemory memory(argv[taken_away ? 2 : 3],
                     taken_away ? GuestMemory::Content::filled : GuestMemory::Content::missing);
  Toucher toucher(memory.largest(), static_cast<unsigned>(threads), static_cast<std::size_t>(count));
  if (taken_away) {
    be_taken_away(toucher, argv[5]);
  } else if (what == "raw") {
    raw(argv[2], memory, toucher);
    toucher.print(stdout);
  } else {
    bench::RestoreClient client(argv[2], memory);
    toucher.run();
    toucher.print(stdout);
  }
  // Threads of the agent may still hold the memory map: no tidy end is needed.
  _exit(0);
}
