// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Does a store stay as fast after a day of one-second epochs as it was after 100? A generated stream: each epoch
// dirties some pages of a 4 GiB machine. store_scale DIRECTORY [EPOCHS [PAGES]]
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "ckpt/env.h"
#include "ckpt/store.h"
#include "counting_env.h"
#include "must.h"

namespace {

using namespace ckpt;
using bench::must;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t ram_bytes = 4ull << 30;
constexpr int samples = 50;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

double now_mib() {
  long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return static_cast<double>(pages) * 4096 / (1 << 20);
}

double cpu_ms() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto ms = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) * 1e-3;
  };
  return ms(usage.ru_utime) + ms(usage.ru_stime);
}

class Generator {
public:
  Generator(Store& store, std::uint64_t pages) : store_(store), pages_(pages) {}

  // Half of what it writes lies in a hot part, half anywhere, as a guest does.
  void epoch(std::uint64_t number) {
    EpochBase base;
    if (number > 1) base.parent = {"vm", number - 1};
    auto writer = must(store_.begin_epoch(
        "vm", number, base,
        {{ObjectClass::ram, "pc.ram", ram_bytes, 4096, 0}, {ObjectClass::device_state, "devices", 0, 0, 0}}));
    std::array<std::uint8_t, 4096> page{};
    std::uint64_t total = ram_bytes / sizeof page;
    for (std::uint64_t i = 0; i < pages_; ++i) {
      std::uint64_t at = i % 2 == 0 ? engine_() % (total / 256) : engine_() % total;
      std::uint64_t value = engine_();
      for (std::size_t k = 0; k < sizeof page / 4; k += 8) std::memcpy(&page[k], &(value *= 6364136223846793005u), 8);
      must(writer->write(0, at * sizeof page, page));
    }
    for (auto& byte : page) byte = static_cast<std::uint8_t>(number);
    must(writer->write(1, 0, page));
    EpochInfo info;
    info.wall_clock_ns = number * 1'000'000'000;
    must(writer->commit(info));
  }

private:
  Store& store_;
  std::uint64_t pages_;
  std::mt19937_64 engine_{1};
};

// What one call asked of the disk, at most: a segment is opened by the first who reads from it, and stays open.
struct Reads {
  std::uint64_t calls = 0, bytes = 0;

  void take(bench::IoCounts& counts) {
    calls = std::max(calls, counts.reads.load());
    bytes = std::max(bytes, counts.bytes_read.load());
    counts.reset();
  }
};

struct Figures {
  Reads open_point, look_up;
  double open_store_ms, open_point_ms, look_up_ms, first_collect_ms, retention_ms, mib;
};

Figures measure(const std::string& path, std::uint64_t newest) {
  Figures figures{};
  std::mt19937_64 engine(newest);
  auto start = Clock::now();
  bench::CountingEnv env(Env::system());
  auto store = must(Store::open(env, path, {}));
  figures.open_store_ms = ms_since(start);
  auto listed = must(store->checkpoints("vm"));
  std::vector<double> opens, look_ups, passes;
  std::array<std::uint8_t, 4096> page;
  for (int i = 0; i < samples; ++i) {
    CheckpointId id = listed[engine() % listed.size()].id;
    env.counts.reset();
    start = Clock::now();
    auto reader = must(store->open_checkpoint(id));
    opens.push_back(ms_since(start));
    figures.open_point.take(env.counts);
    std::uint64_t at = engine() % (ram_bytes / 4096);
    start = Clock::now();
    (void)must(reader->read_page(0, at, page));
    look_ups.push_back(ms_since(start));
    figures.look_up.take(env.counts);
  }
  // By CPU time: it runs beside everything else, and is long enough to be disturbed.
  double before = cpu_ms();
  (void)must(store->collect());
  figures.first_collect_ms = cpu_ms() - before;
  for (int i = 0; i < 10; ++i) {
    std::uint64_t number = listed[static_cast<std::size_t>(i) * 2].id.number;
    start = Clock::now();
    must(store->remove("vm", {&number, 1}));
    (void)must(store->collect());
    passes.push_back(ms_since(start));
  }
  figures.open_point_ms = median(opens);
  figures.look_up_ms = median(look_ups);
  figures.retention_ms = median(passes);
  figures.mib = now_mib();
  return figures;
}

void print(std::uint64_t epochs, const Figures& f, std::uint64_t bytes) {
  std::printf(
      "%8llu epochs: open store %.1f ms, open point %.3f ms, page look-up %.3f ms, count references %.0f ms of CPU, "
      "remove+collect %.1f ms, memory %.0f MiB, store %.1f MiB\n",
      static_cast<unsigned long long>(epochs), f.open_store_ms, f.open_point_ms, f.look_up_ms, f.first_collect_ms,
      f.retention_ms, f.mib, static_cast<double>(bytes) / (1 << 20));
  auto print_reads = [&](const char* what, const Reads& reads) {
    std::printf("%8llu epochs, %s: at most %llu reads of %llu KiB\n", static_cast<unsigned long long>(epochs), what,
                static_cast<unsigned long long>(reads.calls), static_cast<unsigned long long>(reads.bytes >> 10));
  };
  print_reads("open point", f.open_point);
  print_reads("page look-up", f.look_up);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: store_scale DIRECTORY [EPOCHS [PAGES]]\n");
    return 2;
  }
  std::uint64_t epochs = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 86'400;
  std::uint64_t pages = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 64;
  std::string path = argv[1];
  std::uint64_t done = 0;
  for (std::uint64_t stage : {std::uint64_t{100}, epochs}) {
    std::uint64_t bytes = 0;
    {
      auto store = must(Store::open(Env::system(), path, {.create = true}));
      if (store->machines().empty()) must(store->add_machine("vm", {}));
      done = store->machines()[0].last_number;  // goes on with a store that is there
      Generator generator(*store, pages);
      auto start = Clock::now();
      std::uint64_t first = done;
      while (done < stage) {
        generator.epoch(++done);
        if (done % 10'000 == 0)
          std::fprintf(stderr, "%llu epochs, memory %.0f MiB\n", static_cast<unsigned long long>(done), now_mib());
      }
      std::printf("%llu epochs of %llu pages: %.2f ms each, peak memory %.0f MiB\n",
                  static_cast<unsigned long long>(done - first), static_cast<unsigned long long>(pages),
                  ms_since(start) / static_cast<double>(std::max<std::uint64_t>(done - first, 1)), peak_mib());
      bytes = store->stats().stored_bytes;
    }
    if (done <= stage) print(stage, measure(path, stage), bytes);
  }
  return 0;
}
