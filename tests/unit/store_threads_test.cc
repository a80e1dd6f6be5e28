// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Several machines capture while points are removed, space is reclaimed, and others read. For the thread sanitizer,
// mostly.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "ckpt/env.h"
#include "ckpt/store.h"
#include "unit/temp_dir.h"

namespace ckpt {
namespace {

constexpr std::uint64_t pages = 64;
constexpr std::uint64_t epochs = 60;

std::vector<std::uint8_t> content(std::size_t machine, std::uint64_t number, std::uint64_t page) {
  std::vector<std::uint8_t> bytes(4096);
  std::uint64_t word = machine * 1'000'003 + number * 4099 + page + 1;
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>((word = word * 6364136223846793005u + 1) >> 56);
  return bytes;
}

// Epoch n writes page n % 64, so a page of a checkpoint says when it was written last.
std::uint64_t last_write(std::uint64_t number, std::uint64_t page) {
  for (std::uint64_t n = number; n > 0; --n) {
    if (n % pages == page) return n;
  }
  return 0;
}

void capture(Store& store, std::size_t machine, std::atomic<int>& failures, std::atomic<int>& removed) {
  std::string name = "vm" + std::to_string(machine);
  std::unique_ptr<EpochWriter> closed;
  for (std::uint64_t number = 1; number <= epochs; ++number) {
    EpochBase base;
    base.closed = closed.get();
    auto epoch = store.begin_epoch(name, number, base, {{ObjectClass::ram, "ram", pages * 4096, 4096, 0}});
    bool ok = epoch.ok() && (*epoch)->write(0, number % pages * 4096, content(machine, number, number % pages)).ok();
    if (closed) ok = ok && closed->commit({}).ok();
    if (!ok) ++failures;
    if (!ok) return;
    closed = epoch.take();
    std::uint64_t old = number - 5;
    if (number > 6 && number % 2 == 0) store.remove(name, {&old, 1}).ok() ? ++removed : ++failures;
  }
  if (!closed->commit({}).ok()) ++failures;
}

void read(Store& store, std::size_t machines, std::atomic<bool>& stop, std::atomic<int>& failures,
          std::atomic<int>& checked) {
  for (std::uint64_t round = 0; !stop; ++round) {
    std::size_t machine = round % machines;
    auto listed = store.checkpoints("vm" + std::to_string(machine));
    if (!listed || listed->empty()) continue;
    auto reader = store.open_checkpoint((*listed)[round % listed->size()].id);
    if (!reader && reader.error().code != Code::not_found) ++failures;
    if (!reader) continue;  // removed in between
    std::uint64_t number = (*reader)->info().id.number;
    for (std::uint64_t page = 0; page < pages; ++page) {
      std::array<std::uint8_t, 4096> bytes{};
      auto there = (*reader)->read_page(0, page, bytes);
      std::uint64_t written = last_write(number, page);
      bool right = there.ok() && *there == (written != 0);
      if (right && written != 0) {
        auto expected = content(machine, written, page);
        right = std::equal(bytes.begin(), bytes.end(), expected.begin());
      }
      if (!right) ++failures;
    }
    ++checked;
  }
}

TEST(StoreThreads, CaptureRemovalReclaimingAndReadingGoOnTogether) {
  TempDir dir;
  auto store = Store::open(Env::system(), dir / "store", {.create = true, .segment_size_bytes = 64 << 10}).take();
  constexpr std::size_t machines = 3;
  std::atomic<int> failures{0};
  std::atomic<int> checked{0};
  std::atomic<int> removed{0};
  std::atomic<bool> stop{false};
  for (std::size_t i = 0; i < machines; ++i) ASSERT_TRUE(store->add_machine("vm" + std::to_string(i), {}).ok());
  std::vector<std::thread> writers, others;
  for (std::size_t i = 0; i < machines; ++i) writers.emplace_back([&, i] { capture(*store, i, failures, removed); });
  others.emplace_back([&] { read(*store, machines, stop, failures, checked); });
  others.emplace_back([&] {
    while (!stop) {
      if (!store->collect().ok()) ++failures;
      (void)store->stats();
    }
  });
  others.emplace_back([&] {
    while (!stop) {
      auto verified = store->verify({}, nullptr, nullptr);
      if (!verified.ok() || !verified->damages.empty()) ++failures;
    }
  });
  for (auto& thread : writers) thread.join();
  stop = true;
  for (auto& thread : others) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_GT(checked, 0);
  EXPECT_GT(removed, 0);
}

}  // namespace
}  // namespace ckpt
