// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whatever fails, at whatever call: what was acknowledged reads back exactly, what was interrupted is whole or gone.
// CKPT_FAULT_POINTS: how many points of each kind (default 400). CKPT_FAULT_SEED: one seed only, all its points.
#include <gtest/gtest.h>

#include <cstdlib>

#include "unit/fault_env.h"
#include "unit/store_model.h"

namespace ckpt {
namespace {

constexpr int steps = 40;

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::unique_ptr<FaultEnv> make_disk(std::uint64_t seed) {
  auto env = std::make_unique<FaultEnv>(seed);
  EXPECT_TRUE(env->make_directory("/disk").ok());
  EXPECT_TRUE(env->sync_directory("/disk").ok());
  return env;
}

// The store as it is after a restart must be the model, or what was attempted when it was interrupted. It must be
// usable.
std::string check_after_restart(FaultEnv& env, Workload& workload, bool attempted_may_be_there) {
  auto opened = workload.open();
  if (!opened) return "reopen: " + opened.error().message();
  if (workload.store()->stats().damaged) return "reopen: damaged";
  std::string wrong = difference(*workload.store(), workload.model());
  if (!wrong.empty() && attempted_may_be_there && workload.attempted()) {
    Model attempted = *workload.attempted();
    if (std::string also = difference(*workload.store(), attempted); !also.empty()) {
      return "neither before (" + wrong + ") nor after (" + also + ")";
    }
    workload.adopt(attempted);
    wrong.clear();
  }
  if (!wrong.empty()) return wrong;
  auto freed = workload.store()->collect();
  if (!freed) return "collect: " + freed.error().message();
  for (const auto& machine : workload.store()->machines()) {
    auto epoch = workload.store()->begin_epoch(machine.name, machine.last_number + 50, {},
                                               {{ObjectClass::ram, "x", 8192, 0, 0}});
    if (!epoch) return "begin: " + epoch.error().message();
    std::vector<std::uint8_t> bytes(8192, 7);
    if (Status status = (*epoch)->write(0, 0, bytes); !status) return "write: " + status.error().message();
    auto made = (*epoch)->commit({});
    if (!made) return "commit: " + made.error().message();
    std::uint64_t number = made->id.number;
    if (Status status = workload.store()->remove(machine.name, {&number, 1}); !status) return status.error().message();
  }
  workload.close();
  auto reader = Store::open(env, "/disk/store", {.read_only = true});
  if (!reader) return "read-only: " + reader.error().message();
  return difference(**reader, workload.model());
}

struct Tally {
  std::uint64_t points = 0;
  std::uint64_t taken = 0;
};

// Closing seals the open segment: its calls are as good as any.
Status run_and_close(Workload& workload) {
  CKPT_TRY(workload.run(steps));
  workload.close();
  return {};
}

std::string power_cut_at(std::uint64_t seed, std::uint64_t call, Tally& tally) {
  auto env = make_disk(seed * 1'000'003 + call);
  Workload workload(*env, seed);
  env->arm(Fault::power_cut, call);
  Status status = run_and_close(workload);
  ++tally.points;
  tally.taken += env->taken() ? 1 : 0;
  if (!status && !env->taken()) return "failed without a fault: " + status.error().message();
  workload.close();
  env->power_cycle();
  if (!workload.attempted() && workload.model().empty()) {
    auto store = Store::open(*env, "/disk/store", model_options());
    return store ? "" : "reopen: " + store.error().message();
  }
  return check_after_restart(*env, workload, true);
}

std::string error_at(std::uint64_t seed, std::uint64_t call, Fault fault, Tally& tally) {
  auto env = make_disk(seed * 1'000'003 + call);
  Workload workload(*env, seed);
  env->arm(fault, call);
  Status status = run_and_close(workload);
  ++tally.points;
  tally.taken += env->taken() ? 1 : 0;
  bool taken = env->taken();
  env->disarm();
  if (!status && !taken) return "failed without a fault: " + status.error().message();
  bool maybe_there = false;
  if (!status && workload.store() != nullptr) {
    bool full = fault == Fault::no_space;
    if (full && status.error().code != Code::no_space && status.error().code != Code::io)
      return "code: " + status.error().message();
    // Only a record in doubt leaves open what will be seen later, and nothing more is stored then.
    maybe_there = !workload.store()->collect().ok();
    if (maybe_there && status.error().code != Code::io) return "in doubt: " + status.error().message();
    std::string wrong = difference(*workload.store(), workload.model());
    if (!wrong.empty()) return "without reopening: " + wrong;
    if (status.error().code == Code::no_space) {
      // Room again: it goes on without being opened again. Epochs that lost data are given up.
      for (const auto& machine : workload.store()->machines()) {
        auto epoch = workload.store()->begin_epoch(machine.name, machine.last_number + 20, {},
                                                   {{ObjectClass::ram, "x", 4096, 0, 0}});
        if (!epoch) return "begin after ENOSPC: " + epoch.error().message();
        std::vector<std::uint8_t> bytes(4096, 7);
        if (Status again = (*epoch)->write(0, 0, bytes); !again)
          return "write after ENOSPC: " + again.error().message();
        auto made = (*epoch)->commit({});
        if (!made) return "commit after ENOSPC: " + made.error().message();
        std::uint64_t number = made->id.number;
        if (Status again = workload.store()->remove(machine.name, {&number, 1}); !again) return again.error().message();
      }
    }
  }
  workload.close();
  env->power_cycle();
  if (workload.model().empty()) return {};
  return check_after_restart(*env, workload, maybe_there);
}

void run_points(const std::function<std::string(std::uint64_t seed, std::uint64_t call, Tally&)>& at) {
  std::uint64_t wanted = number_from("CKPT_FAULT_POINTS", 400);
  std::uint64_t only_seed = number_from("CKPT_FAULT_SEED", 0);
  Tally tally;
  for (std::uint64_t seed = only_seed != 0 ? only_seed : 1; tally.points < wanted; ++seed) {
    auto env = make_disk(seed);
    Workload dry(*env, seed);
    std::uint64_t before = env->calls();
    Status plain = run_and_close(dry);
    ASSERT_TRUE(plain.ok()) << "seed " << seed << ": " << plain.error().message();
    std::uint64_t calls = env->calls() - before;
    ASSERT_TRUE(dry.open().ok());
    ASSERT_EQ(difference(*dry.store(), dry.model()), "") << "seed " << seed;
    dry.close();
    // A short run looks at some points of many seeds, a long one at each.
    std::uint64_t stride = wanted < 2000 && only_seed == 0 ? 7 : 1;
    for (std::uint64_t call = seed % stride; call < calls; call += stride) {
      std::string wrong = at(seed, call, tally);
      ASSERT_EQ(wrong, "") << "replay with CKPT_FAULT_SEED=" << seed << ", call " << call;
    }
    if (only_seed != 0) break;
  }
  ::testing::Test::RecordProperty("points", static_cast<int>(tally.points));
  std::printf("points %llu, faults taken %llu\n", static_cast<unsigned long long>(tally.points),
              static_cast<unsigned long long>(tally.taken));
  // Behind the last call that can be short of space there are others.
  EXPECT_GE(tally.taken * 100, tally.points * 90) << "the faults were not taken";
}

TEST(StoreFaults, APowerCutAtAnyCallLosesNothingAcknowledged) {
  run_points([](std::uint64_t seed, std::uint64_t call, Tally& tally) { return power_cut_at(seed, call, tally); });
}

TEST(StoreFaults, AFullDiskAtAnyCallLosesNothingAndItGoesOnLater) {
  run_points([](std::uint64_t seed, std::uint64_t call, Tally& tally) {
    return error_at(seed, call, Fault::no_space, tally);
  });
}

TEST(StoreFaults, AnIoErrorAtAnyCallLosesNothing) {
  run_points([](std::uint64_t seed, std::uint64_t call, Tally& tally) {
    return error_at(seed, call, Fault::io_error, tally);
  });
}

TEST(StoreFaults, AShortWriteAtAnyCallLosesNothing) {
  run_points([](std::uint64_t seed, std::uint64_t call, Tally& tally) {
    return error_at(seed, call, Fault::short_write, tally);
  });
}

}  // namespace
}  // namespace ckpt
