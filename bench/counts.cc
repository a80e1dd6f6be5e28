// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What does not depend on the machine: bytes and calls for a fixed generated stream, one "NAME VALUE" a line. The
// committed values are in bench/counts.txt; tests/functional/bench_counts.py compares.
#include <zstd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "ckpt/stream.h"
#include "counting_env.h"
#include "local_session.h"
#include "machine_model.h"
#include "must.h"
#include "unit/fault_env.h"

namespace {

using namespace ckpt;
using bench::must;

constexpr std::uint64_t epochs = 100;
constexpr std::uint64_t look_ups = 1000;

void print(const char* phase, const char* name, std::uint64_t value) {
  std::printf("%s.%s %llu\n", phase, name, static_cast<unsigned long long>(value));
}

void print(const char* phase, bench::IoCounts& counts) {
  print(phase, "writes", counts.writes);
  print(phase, "bytes_written", counts.bytes_written);
  print(phase, "syncs", counts.syncs);
  print(phase, "reads", counts.reads);
  print(phase, "bytes_read", counts.bytes_read);
  print(phase, "opens", counts.opens);
  counts.reset();
}

void write(bench::CountingEnv& env) {
  auto store = must(Store::open(env, "store", {.create = true}));
  must(store->add_machine("vm", {}));
  env.counts.reset();
  tools::MachineModel model({.seed = 1});
  tools::StreamClient client(model, {.dirty_pages = 200, .disk_writes = 50}, {});
  auto receiver = StreamReceiver::create(*store, {"vm", 1000, "{}"}, {});
  client.connect();
  tools::LocalSession session(client, *receiver);
  must(session.take(1));
  print("full", env.counts);
  must(session.take(epochs));
  print("epochs", env.counts);
  print("stream", "messages", client.next_sequence());
  print("store", "bytes", store->stats().stored_bytes);
}

void read(bench::CountingEnv& env) {
  auto store = must(Store::open(env, "store", {.read_only = true}));
  print("open_store", env.counts);
  auto reader = must(store->open_checkpoint(must(store->checkpoints("vm")).back().id));
  print("open_checkpoint", env.counts);
  tools::Random random(1);
  std::array<std::uint8_t, 4096> page;
  for (std::uint64_t i = 0; i < look_ups; ++i)
    (void)must(reader->read_page(0, random.below(reader->objects()[0].size_bytes / page.size()), page));
  print("look_ups", env.counts);
}

}  // namespace

int main() {
  std::printf("zstd %u\n", ZSTD_versionNumber());
  FaultEnv memory(1);
  bench::CountingEnv env(memory);
  write(env);
  print("close_store", env.counts);
  read(env);
  return 0;
}
