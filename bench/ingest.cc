// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Pages to durable checkpoint, next to zstd -1 alone on the same pages, on one core, in one run. ingest DIRECTORY PAGES
// PAGES: a file of guest memory.
#include <sys/resource.h>
#include <zstd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "ckpt/env.h"
#include "ckpt/store.h"

namespace {

using namespace ckpt;
using Clock = std::chrono::steady_clock;

constexpr std::size_t bytes_limit = 256u << 20;
constexpr std::size_t message_bytes = 1u << 20;
constexpr std::size_t frame_bytes = 4 * 4096;
constexpr int rounds = 5;

// Of this process, kernel time included: what waits for the disk does not count.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<std::uint8_t> read_pages(const char* path) {
  std::vector<std::uint8_t> bytes(bytes_limit);
  std::FILE* file = std::fopen(path, "rb");
  bytes.resize(file == nullptr ? 0 : std::fread(bytes.data(), 1, bytes.size(), file) / 4096 * 4096);
  if (file != nullptr) std::fclose(file);
  return bytes;
}

double zstd_alone(const std::vector<std::uint8_t>& bytes) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  std::vector<std::uint8_t> out(ZSTD_compressBound(frame_bytes));
  auto start = Clock::now();
  for (std::size_t i = 0; i < bytes.size(); i += frame_bytes) {
    (void)ZSTD_compressCCtx(context, out.data(), out.size(), &bytes[i], std::min(frame_bytes, bytes.size() - i), 1);
  }
  double seconds = seconds_since(start);
  ZSTD_freeCCtx(context);
  return seconds;
}

double ingest(Store& store, std::uint64_t number, const std::vector<std::uint8_t>& bytes) {
  auto start = Clock::now();
  auto epoch = store.begin_epoch("vm", number, {}, {{ObjectClass::ram, "ram", bytes.size(), 4096, 0}});
  bool ok = epoch.ok();
  for (std::size_t i = 0; ok && i < bytes.size(); i += message_bytes) {
    ok = (*epoch)->write(0, i, std::span(bytes).subspan(i, std::min(message_bytes, bytes.size() - i))).ok();
  }
  if (!ok || !(*epoch)->commit({}).ok()) {
    std::fprintf(stderr, "the store refused\n");
    std::exit(1);
  }
  return seconds_since(start);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: ingest DIRECTORY PAGES\n");
    return 2;
  }
  std::vector<std::uint8_t> bytes = read_pages(argv[2]);
  if (bytes.empty()) {
    std::fprintf(stderr, "there are no pages in %s\n", argv[2]);
    return 1;
  }
  auto store = Store::open(Env::system(), argv[1], {.create = true});
  if (!store.ok() || !(*store)->add_machine("vm", {}).ok()) {
    std::fprintf(stderr, "cannot make a store in %s\n", argv[1]);
    return 1;
  }
  std::vector<double> floors, floors_cpu, first_times, first_cpu, again;
  double mib = static_cast<double>(bytes.size()) / (1 << 20);
  for (int round = 0; round < rounds; ++round) {
    // Other content each round, or all would be found again.
    for (std::size_t i = 0; i < bytes.size(); i += 4096) bytes[i] = static_cast<std::uint8_t>(round + 1);
    double before = cpu_seconds();
    floors.push_back(mib / zstd_alone(bytes));
    double between = cpu_seconds();
    first_times.push_back(mib / ingest(**store, static_cast<std::uint64_t>(2 * round + 1), bytes));
    floors_cpu.push_back(mib / (between - before));
    first_cpu.push_back(mib / (cpu_seconds() - between));
    again.push_back(mib / ingest(**store, static_cast<std::uint64_t>(2 * round + 2), bytes));
  }
  for (auto* values : {&floors, &floors_cpu, &first_times, &first_cpu, &again})
    std::sort(values->begin(), values->end());
  auto show = [](const char* name, const std::vector<double>& v) {
    std::printf("%-34s median %.0f MiB/s (%.0f to %.0f)\n", name, v[v.size() / 2], v.front(), v.back());
  };
  show("zstd -1 alone", floors);
  show("pages to durable checkpoint", first_times);
  show("zstd -1 alone, CPU time", floors_cpu);
  show("pages to durable, CPU time", first_cpu);
  show("the same, all in the store already", again);
  std::printf("share of the floor: %.2f, by CPU time %.2f\n", first_times[rounds / 2] / floors[rounds / 2],
              first_cpu[rounds / 2] / floors_cpu[rounds / 2]);
  return 0;
}
