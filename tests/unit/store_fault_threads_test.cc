// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Two machines capture into one store at once while something fails. Which thread meets the fault, and what the other
// is doing then, is different each time; what was acknowledged reads back exactly every time.
#include <gtest/gtest.h>

#include <condition_variable>
#include <set>
#include <thread>

#include "ckpt/store.h"
#include "unit/fault_env.h"

namespace ckpt {
namespace {

constexpr std::uint64_t pages = 24;
constexpr std::uint64_t epochs = 30;
using Content = std::array<std::uint64_t, pages>;  // the seed of each page; 0: zeroes

std::vector<std::uint8_t> page(std::uint64_t seed) {
  std::vector<std::uint8_t> bytes(page_size_bytes);
  std::mt19937_64 engine(seed);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(seed == 0 ? 0 : engine());
  return bytes;
}

std::vector<Object> objects() { return {{ObjectClass::ram, "ram", pages * page_size_bytes, 4096, 0}}; }

// One machine, and what its owner knows of it.
class Machine {
public:
  Machine(std::string name, std::uint64_t seed) : name_(std::move(name)), engine_(seed) {}

  const std::string& name() const { return name_; }
  std::uint64_t acknowledged() const { return acknowledged_.size(); }

  // Each epoch builds upon the last one that was acknowledged.
  void capture(Store& store) {
    for (std::uint64_t number = 1; number <= epochs; ++number) {
      commit(store, number);
      if (number % 4 == 0 && acknowledged_.size() > 2) remove(store, *acknowledged_.begin());
      if (number % 5 == 0) (void)store.collect();
    }
  }

  // Empty: the store holds what was acknowledged, and nothing that cannot be.
  std::string difference(Store& store) const {
    auto listed = store.checkpoints(name_);
    if (!listed) return name_ + ": " + listed.error().message();
    std::set<std::uint64_t> there;
    for (const CheckpointInfo& info : *listed) there.insert(info.id.number);
    for (std::uint64_t number : acknowledged_) {
      if (!there.contains(number)) return name_ + "@" + std::to_string(number) + " was acknowledged and is gone";
    }
    for (std::uint64_t number : there) {
      if (!acknowledged_.contains(number) && !open_.contains(number)) {
        return name_ + "@" + std::to_string(number) + " failed, or was removed, and is there";
      }
      if (std::string wrong = compare(store, number); !wrong.empty()) return wrong;
    }
    return {};
  }

private:
  void commit(Store& store, std::uint64_t number) {
    EpochBase base;
    Content content{};
    if (!acknowledged_.empty()) {
      base.parent = {name_, *acknowledged_.rbegin()};
      content = contents_.at(base.parent.number);
    }
    auto epoch = store.begin_epoch(name_, number, base, objects());
    for (int i = 0; epoch && i < 4; ++i) {
      std::uint64_t at = engine_() % pages;
      content[at] = 1 + engine_() % 1000;  // few enough to be found again
      if (!(*epoch)->write(0, at * page_size_bytes, page(content[at]))) return;
    }
    if (!epoch) return;
    contents_[number] = content;
    auto made = (*epoch)->commit({});
    if (made)
      acknowledged_.insert(number);
    else if (made.error().code == Code::io)
      open_.insert(number);
  }

  void remove(Store& store, std::uint64_t number) {
    acknowledged_.erase(number);
    Status removed = store.remove(name_, {&number, 1});
    if (removed) return;
    if (removed.error().code == Code::io)
      open_.insert(number);
    else
      acknowledged_.insert(number);
  }

  std::string compare(Store& store, std::uint64_t number) const {
    std::string where = name_ + "@" + std::to_string(number) + ": ";
    auto reader = store.open_checkpoint({name_, number});
    if (!reader) return where + reader.error().message();
    for (std::uint64_t at = 0; at < pages; ++at) {
      std::vector<std::uint8_t> bytes(page_size_bytes);
      Status status = (*reader)->read(0, at * page_size_bytes, bytes);
      if (!status) return where + status.error().message();
      if (bytes != page(contents_.at(number)[at])) return where + "page " + std::to_string(at) + " is another";
    }
    return {};
  }

  std::string name_;
  std::mt19937_64 engine_;
  std::map<std::uint64_t, Content> contents_;
  std::set<std::uint64_t> acknowledged_;
  std::set<std::uint64_t> open_;  // failed in a way that leaves open whether it happened
};

class StoreFaultThreads : public ::testing::Test {
protected:
  std::unique_ptr<Store> open(FaultEnv& env) {
    auto opened = Store::open(env, "/disk/store", {.create = true, .segment_size_bytes = 24 << 10});
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    return opened ? opened.take() : nullptr;
  }

  void both_capture(Fault fault, std::uint64_t seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    FaultEnv env(seed);
    ASSERT_TRUE(env.make_directory("/disk").ok());
    ASSERT_TRUE(env.sync_directory("/disk").ok());
    std::array<Machine, 2> machines = {Machine("one", seed), Machine("two", seed + 1'000'000)};
    auto store = open(env);
    ASSERT_NE(store, nullptr);
    for (const Machine& machine : machines) ASSERT_TRUE(store->add_machine(machine.name(), {}).ok());
    // Long enough for the other to come meanwhile.
    env.on_sync = [](const Status&) { std::this_thread::sleep_for(std::chrono::microseconds(100)); };
    env.arm(fault, seed * 37 % 400);
    std::vector<std::thread> threads;
    for (Machine& machine : machines) threads.emplace_back([&] { machine.capture(*store); });
    for (auto& thread : threads) thread.join();
    env.on_sync = nullptr;
    taken += env.taken() ? 1 : 0;
    store.reset();
    env.power_cycle();
    store = open(env);
    ASSERT_NE(store, nullptr);
    EXPECT_FALSE(store->stats().damaged);
    for (const Machine& machine : machines) {
      ASSERT_EQ(machine.difference(*store), "");
      acknowledged += machine.acknowledged();
    }
    auto verified = store->verify({}, nullptr, nullptr);
    ASSERT_TRUE(verified.ok());
    EXPECT_TRUE(verified->damages.empty());
  }

  void run(Fault fault) {
    constexpr std::uint64_t seeds = 12;
    for (std::uint64_t seed = 1; seed <= seeds && !HasFatalFailure(); ++seed) both_capture(fault, seed);
    EXPECT_GE(taken, seeds * 9 / 10) << "the faults were not taken";
    EXPECT_GT(acknowledged, seeds) << "there was hardly anything to lose";
  }

  std::uint64_t taken = 0;
  std::uint64_t acknowledged = 0;
};

TEST_F(StoreFaultThreads, APowerCutLosesNothingAcknowledged) { run(Fault::power_cut); }
TEST_F(StoreFaultThreads, AFullDiskLosesNothingAcknowledged) { run(Fault::no_space); }
TEST_F(StoreFaultThreads, AnIoErrorLosesNothingAcknowledged) { run(Fault::io_error); }
TEST_F(StoreFaultThreads, AFailedSyncLosesNothingAcknowledged) { run(Fault::failed_sync); }

// The system tells one of two that sync a file at once. The other's commit must not be acknowledged before that is
// known.
TEST_F(StoreFaultThreads, AFailedSyncIsTheFailureOfAllWhoWroteBeforeIt) {
  FaultEnv env(1);
  ASSERT_TRUE(env.make_directory("/disk").ok());
  auto store = open(env);
  ASSERT_NE(store, nullptr);
  std::array<std::string, 2> names = {"one", "two"};
  std::array<std::unique_ptr<EpochWriter>, 2> writers;
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(store->add_machine(names[i], {}).ok());
    writers[i] = store->begin_epoch(names[i], 1, {}, objects()).take();
    ASSERT_TRUE(writers[i]->write(0, 0, page(i + 1)).ok());
  }
  std::mutex mutex;
  std::condition_variable changed;
  bool failing = false;
  bool other_done = false;
  env.on_sync = [&](const Status& status) {
    if (status) return;
    std::unique_lock lock(mutex);
    failing = true;
    changed.notify_all();
    // Who is told of the failure is slow to say so. The other waits for it, as it should, or is done long before.
    changed.wait_for(lock, std::chrono::milliseconds(500), [&] { return other_done; });
  };
  env.arm(Fault::failed_sync, 0);
  std::array<bool, 2> acknowledged{};
  std::thread first([&] { acknowledged[0] = writers[0]->commit({}).ok(); });
  std::thread second([&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return failing; });
    lock.unlock();
    acknowledged[1] = writers[1]->commit({}).ok();
    lock.lock();
    other_done = true;
    changed.notify_all();
  });
  first.join();
  second.join();
  EXPECT_FALSE(acknowledged[0]);
  EXPECT_FALSE(acknowledged[1]) << "of what the failed sync may have lost";
  // Later ones start in a new segment.
  for (std::size_t i = 0; i < 2; ++i) {
    auto epoch = store->begin_epoch(names[i], 2, {}, objects()).take();
    ASSERT_TRUE(epoch->write(0, 0, page(i + 1)).ok());
    EXPECT_TRUE(epoch->commit({}).ok());
  }
}

}  // namespace
}  // namespace ckpt
