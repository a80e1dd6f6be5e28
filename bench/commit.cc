// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How long a commit and a write take while machines send at a steady rate into one store.
// commit DIRECTORY MACHINES EPOCHS_PER_SECOND MIB_PER_SECOND [SECONDS]    MIB_PER_SECOND is that of all machines
// together.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ckpt/env.h"
#include "ckpt/store.h"

namespace {

using namespace ckpt;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t ram_bytes = 1ull << 30;
constexpr std::size_t message_bytes = 1u << 18;

struct Load {
  std::string machine;
  std::uint64_t epochs = 0;
  std::chrono::nanoseconds interval{};
  std::uint64_t epoch_bytes = 0;
};

class Samples {
public:
  void add(double ms) {
    std::lock_guard lock(mutex_);
    values_.push_back(ms);
  }
  void show(const char* name) {
    std::sort(values_.begin(), values_.end());
    auto at = [this](double share) {
      return values_[static_cast<std::size_t>(share * static_cast<double>(values_.size() - 1))];
    };
    std::printf("%-8s %6zu: p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", name, values_.size(), at(0.5), at(0.99), at(1));
  }

private:
  std::mutex mutex_;
  std::vector<double> values_;
};

template <typename Call>
void timed(Samples& samples, const Call& call) {
  auto start = Clock::now();
  auto result = call();
  samples.add(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  if (result.ok()) return;
  std::fprintf(stderr, "%s\n", result.error().message().c_str());
  std::exit(1);
}

// About as compressible as guest memory.
void fill(std::vector<std::uint8_t>& bytes, std::mt19937_64& engine) {
  for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word = i % 64 < 24 ? engine() : i;
    std::memcpy(&bytes[i], &word, sizeof word);
  }
}

// Each message is sent when its share of the interval has passed, or at once when that is late.
void send(Store& store, const Load& load, Samples& writes, Samples& commits) {
  std::mt19937_64 engine(std::hash<std::string>()(load.machine));
  std::vector<std::uint8_t> bytes(message_bytes);
  std::uint64_t messages = std::max<std::uint64_t>(1, load.epoch_bytes / message_bytes);
  std::size_t length = std::min<std::uint64_t>(load.epoch_bytes, message_bytes) / 4096 * 4096;
  auto due = Clock::now();
  for (std::uint64_t number = 1; number <= load.epochs; ++number) {
    EpochBase base;
    if (number > 1) base.parent = {load.machine, number - 1};
    auto epoch = store.begin_epoch(load.machine, number, base, {{ObjectClass::ram, "ram", ram_bytes, 4096, 0}});
    if (!epoch.ok()) std::exit(1);
    for (std::uint64_t i = 0; i < messages; ++i) {
      fill(bytes, engine);
      std::this_thread::sleep_until(due += load.interval / messages);
      std::uint64_t offset = engine() % (ram_bytes - message_bytes) / 4096 * 4096;
      timed(writes, [&] { return (*epoch)->write(0, offset, std::span(bytes).first(length)); });
    }
    timed(commits, [&] { return (*epoch)->commit({}); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: commit DIRECTORY MACHINES EPOCHS_PER_SECOND MIB_PER_SECOND [SECONDS]\n");
    return 2;
  }
  std::uint64_t machines = std::strtoull(argv[2], nullptr, 10);
  double rate = std::strtod(argv[3], nullptr);
  double mib = std::strtod(argv[4], nullptr);
  double seconds = argc > 5 ? std::strtod(argv[5], nullptr) : 20;
  auto store = Store::open(Env::system(), argv[1], {.create = true});
  if (!store.ok() || machines == 0 || rate <= 0) return 1;
  Samples writes, commits;
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < machines; ++i) {
    Load load{"vm" + std::to_string(i), static_cast<std::uint64_t>(seconds * rate),
              std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 / rate)),
              static_cast<std::uint64_t>(mib * (1 << 20) / rate / static_cast<double>(machines))};
    if (!(*store)->add_machine(load.machine, {}).ok()) return 1;
    threads.emplace_back([&store, &writes, &commits, load] { send(**store, load, writes, commits); });
  }
  for (std::thread& thread : threads) thread.join();
  writes.show("write");
  commits.show("commit");
  return 0;
}
