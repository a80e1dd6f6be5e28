// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include <utility>

#include "unit/store_fixture.h"
#include "unit/store_model.h"

namespace ckpt {
namespace {

class StoreReclaim : public StoreFixture {};

TEST_F(StoreReclaim, SpaceComesBackAndWhatIsKeptStays) {
  commit("vm", 1, {}, 0, 200, 1000);
  for (std::uint64_t number = 2; number <= 20; ++number)
    commit("vm", number, {"vm", number - 1}, 0, 100, number * 1000);
  std::uint64_t full = store->stats().stored_bytes;
  std::vector<std::uint64_t> middle;
  for (std::uint64_t number = 2; number < 20; ++number) middle.push_back(number);
  remove("vm", middle);
  EXPECT_GT(collect_all(), full / 2);
  EXPECT_LT(store->stats().stored_bytes, full / 4);
  expect_page(*store, {"vm", 1}, 50, 1050);
  expect_page(*store, {"vm", 20}, 50, 20'050);
  expect_page(*store, {"vm", 20}, 150, 1150);
  store.reset();
  store = open();
  expect_page(*store, {"vm", 20}, 150, 1150);
  remove("vm", {1, 20});
  collect_all();
  EXPECT_LT(store->stats().stored_bytes, 200'000u);
}

TEST_F(StoreReclaim, AForkKeepsWhatItsRemovedParentHad) {
  commit("vm", 1, {}, 0, 100, 1000);
  commit("vm", 2, {"vm", 1}, 10, 10, 2000);
  commit("other", 1, {"vm", 1}, 20, 10, 3000);
  commit("other", 2, {"other", 1}, 0, 1, 4000);
  remove("vm", {1});
  collect_all();
  expect_page(*store, {"other", 1}, 15, 1015);
  expect_page(*store, {"vm", 2}, 25, 1025);
  ASSERT_TRUE(store->forget_machine("vm").ok());
  collect_all();
  store.reset();
  store = open();
  expect_page(*store, {"other", 2}, 15, 1015);
  expect_page(*store, {"other", 2}, 25, 3005);
}

TEST_F(StoreReclaim, AnOpenReaderKeepsARemovedCheckpointReadable) {
  commit("vm", 1, {}, 0, 200, 1000);
  commit("vm", 2, {}, 0, 1, 5000);
  auto reader = store->open_checkpoint({"vm", 1}).take();
  remove("vm", {1});
  collect_all();
  expect_page(*reader, 199, 1199);
  std::uint64_t before = store->stats().stored_bytes;
  reader.reset();
  EXPECT_GT(collect_all(), before / 2);
}

TEST_F(StoreReclaim, AReaderInAnotherProcessReadsWhatIsPinnedWhateverIsReclaimed) {
  commit("vm", 1, {}, 0, 200, 1000);
  commit("vm", 2, {"vm", 1}, 0, 100, 5000);
  ASSERT_TRUE(store->pin({"vm", 2}, "reader").ok());
  auto foreign = open(true);
  auto reader = foreign->open_checkpoint({"vm", 2}).take();
  remove("vm", {1});
  EXPECT_GT(collect_all(), 0u);
  for (std::uint64_t at = 0; at < 200; ++at) expect_page(*reader, at, at < 100 ? 5000 + at : 1000 + at);
  commit("vm", 3, {}, 0, 1, 9000);
  ASSERT_TRUE(foreign->refresh().ok());
  EXPECT_EQ(foreign->checkpoints("vm")->size(), 2u);
  expect_page(*foreign, {"vm", 3}, 0, 9000);
  EXPECT_EQ(foreign->stats().segments, store->stats().segments);
}

TEST_F(StoreReclaim, AReaderOpensWhatItReadsAndNotTheWholeStore) {
  for (std::uint64_t number = 1; number <= 22; ++number) commit("vm", number, {}, 0, 250, number * 1000);
  store.reset();
  ASSERT_GT(env.list("/disk/store/segments").take().size(), 300u);
  ASSERT_EQ(env.open_files(), 0);
  std::uint64_t calls = env.calls();
  auto foreign = open(true);
  expect_page(*foreign, {"vm", 9}, 0, 9000);
  EXPECT_LE(env.open_files(), 4);
  EXPECT_LT(env.calls() - calls, 50u);
  for (std::uint64_t number = 1; number <= 22; ++number) {
    for (std::uint64_t at = 0; at < 250; at += 5) expect_page(*foreign, {"vm", number}, at, number * 1000 + at);
  }
  EXPECT_LE(env.open_files(), 260);
}

TEST_F(StoreReclaim, ChunksThatAnOpenEpochFoundAgainSurvive) {
  commit("vm", 1, {}, 0, 200, 1000);
  commit("vm", 2, {}, 0, 1, 5000);
  auto epoch = store->begin_epoch("vm", 3, {}, objects()).take();
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(epoch->write(0, i * 4096, page(1000 + i * 20)).ok());
  remove("vm", {1});
  EXPECT_GT(collect_all(), 0u);
  auto made = epoch->commit({});
  ASSERT_TRUE(made.ok());
  EXPECT_LT(made->stored_bytes, 4096u);  // they were found again
  for (std::uint64_t i = 0; i < 10; ++i) expect_page(*store, {"vm", 3}, i, 1000 + i * 20);
}

// What an epoch finds again is looked for in older segments, by reading them: one may be deleted in that very instant.
TEST_F(StoreReclaim, ASegmentThatIsDeletedWhileItIsReadHasNoDuplicates) {
  commit("vm", 1, {}, 0, 200, 1000);
  commit("vm", 2, {}, 0, 1, 5000);
  remove("vm", {1});
  store.reset();
  store = open();
  std::vector<std::string> opened;
  env.on_open = [&](const std::string& path) {
    opened.push_back(path);
    if (opened.size() != 2) return;  // the newest is alive
    auto hook = std::exchange(env.on_open, nullptr);
    EXPECT_GT(collect_all(), 500'000u);
    EXPECT_EQ(env.file_size(path), 0u) << "it was not deleted";
  };
  commit("vm", 3, {}, 0, 200, 1000);
  ASSERT_GE(opened.size(), 2u);
  store.reset();
  store = open();
  for (std::uint64_t at = 0; at < 200; ++at) expect_page(*store, {"vm", 3}, at, 1000 + at);
}

TEST_F(StoreReclaim, TheParentOfAnOpenEpochMayBeRemoved) {
  commit("vm", 1, {}, 0, 200, 1000);
  auto epoch = store->begin_epoch("vm", 2, {.parent = {"vm", 1}}, objects()).take();
  remove("vm", {1});
  collect_all();
  ASSERT_TRUE(epoch->write(0, 100, page(1)).ok());
  ASSERT_TRUE(epoch->commit({}).ok());
  collect_all();
  expect_page(*store, {"vm", 2}, 150, 1150);
}

TEST_F(StoreReclaim, AbandonedEpochsGiveTheirSpaceBack) {
  commit("vm", 1, {}, 0, 1, 1000);
  auto epoch = store->begin_epoch("vm", 2, {}, objects()).take();
  for (std::uint64_t i = 0; i < 200; ++i) ASSERT_TRUE(epoch->write(0, i * 4096, page(7000 + i)).ok());
  EXPECT_EQ(collect_all(), 0u);
  epoch.reset();
  EXPECT_GT(collect_all(), 500'000u);
}

TEST_F(StoreReclaim, ADamagedNodeKeepsWhatItMayReferToAndNothingElse) {
  commit("vm", 1, {}, 0, 200, 1000);
  commit("vm", 2, {}, 0, 210, 1000);  // finds most of it again
  remove("vm", {1});
  store.reset();
  auto [path, offset] = newest(Kind::node);
  std::uint64_t bit = offset * 8;
  store = open();
  for (std::uint64_t number = 1; number <= 20; ++number) commit("other", number, {}, 0, 100, number * 10'000);
  std::vector<std::uint64_t> most;
  for (std::uint64_t number = 1; number < 20; ++number) most.push_back(number);
  remove("other", most);
  store.reset();
  ASSERT_TRUE(env.flip_bit(path, bit));
  store = open();
  std::uint64_t full = store->stats().stored_bytes;
  EXPECT_GT(collect_all(), full / 2);
  auto uncounted = store->stats().uncounted;
  ASSERT_EQ(uncounted.size(), 1u);
  EXPECT_EQ(uncounted[0].checkpoints, (std::vector<CheckpointId>{{"vm", 2}}));
  EXPECT_NE(uncounted[0].place.find("segments/"), std::string::npos) << uncounted[0].place;
  std::array<std::uint8_t, 4096> unread;
  EXPECT_FALSE(store->open_checkpoint({"vm", 2}).take()->read_page(0, 0, unread).ok());
  expect_page(*store, {"other", 20}, 99, 200'099);

  // Were it whole again, all that it refers to would be there.
  store.reset();
  ASSERT_TRUE(env.flip_bit(path, bit));
  {
    auto reader = open(true);
    for (std::uint64_t at = 0; at < 210; ++at) expect_page(*reader, {"vm", 2}, at, 1000 + at);
  }
  ASSERT_TRUE(env.flip_bit(path, bit));
  store = open();
  collect_all();
  ASSERT_FALSE(store->stats().uncounted.empty());
  remove("vm", {2});
  EXPECT_GT(collect_all(), 500'000u);
  EXPECT_TRUE(store->stats().uncounted.empty());
  expect_page(*store, {"other", 20}, 99, 200'099);
}

TEST_F(StoreReclaim, ADamagedManifestIsAsADamagedNode) {
  commit("vm", 1, {}, 0, 200, 1000);
  store.reset();
  auto names = env.list("/disk/store/segments").take();
  std::string last = "/disk/store/segments/" + names.back();
  // The manifest is the last frame before the footer, which begins with the first frame's offset.
  Bytes trailer(segment_trailer_bytes);
  std::uint64_t size = env.file_size(last);
  ASSERT_TRUE(env.open(last, Env::Mode::read).take()->read_at(size - trailer.size(), trailer).ok());
  std::uint64_t bit = (decode_trailer(trailer, size)->footer_offset - 1) * 8;
  ASSERT_TRUE(env.flip_bit(last, bit));
  store = open();
  commit("other", 1, {}, 0, 200, 10'000);
  commit("other", 2, {}, 0, 1, 20'000);
  remove("other", {1});
  EXPECT_GT(collect_all(), 500'000u);
  ASSERT_EQ(store->stats().uncounted.size(), 1u);
  EXPECT_EQ(store->stats().uncounted[0].checkpoints, (std::vector<CheckpointId>{{"vm", 1}}));
  store.reset();
  ASSERT_TRUE(env.flip_bit(last, bit));
  store = open();
  for (std::uint64_t at = 0; at < 200; ++at) expect_page(*store, {"vm", 1}, at, 1000 + at);
}

TEST_F(StoreReclaim, TheJournalIsShortened) {
  commit("vm", 1, {}, 0, 1, 1000);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(store->pin({"vm", 1}, "x").ok());
    ASSERT_TRUE(store->unpin({"vm", 1}, "x").ok());
  }
  commit("vm", 2, {"vm", 1}, 0, 1, 2000);
  remove("vm", {2});
  std::uint64_t before = store->stats().journal_bytes;
  collect_all();
  EXPECT_LT(store->stats().journal_bytes, before / 4);
  store.reset();
  store = open();
  EXPECT_EQ(store->checkpoints("vm")->size(), 1u);
  EXPECT_EQ(store->machines()[1].last_number, 2u);  // also of a removed one
  expect_page(*store, {"vm", 1}, 0, 1000);
}

TEST_F(StoreReclaim, TheJournalMayFailWhileSpaceIsReclaimed) {
  commit("vm", 1, {}, 0, 1, 1000);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(store->pin({"vm", 1}, "x").ok());
    ASSERT_TRUE(store->unpin({"vm", 1}, "x").ok());
  }
  store.reset();
  store = open();
  env.on_open = [&](const std::string&) {
    auto hook = std::exchange(env.on_open, nullptr);
    // What may have been written cannot be taken back either.
    env.on_sync = [&](const Status& status) {
      auto self = std::exchange(env.on_sync, nullptr);
      if (!status) env.arm(Fault::failed_sync, 0);
    };
    env.arm(Fault::failed_sync, 0);
    EXPECT_EQ(store->pin({"vm", 1}, "y").error().code, Code::io);
  };
  auto freed = store->collect();
  ASSERT_FALSE(freed.ok());
  EXPECT_EQ(freed.error().code, Code::io);
  store.reset();
  store = open();
  EXPECT_GT(collect_all(), 0u);
  expect_page(*store, {"vm", 1}, 0, 1000);
}

TEST_F(StoreReclaim, AFullDiskCanStillBeEmptied) {
  commit("vm", 1, {}, 0, 200, 1000);
  commit("vm", 2, {}, 0, 1, 5000);
  env.arm(Fault::no_space, 0);
  remove("vm", {1});
  EXPECT_TRUE(env.taken());
  EXPECT_GT(collect_all(), 500'000u);
  expect_page(*store, {"vm", 2}, 0, 5000);
}

// Of an older version's store too, whose reserve is smaller than this removal's record.
TEST_F(StoreReclaim, AFullDiskTakesTheRecordOfALargeRemoval) {
  store.reset();
  {
    auto reserve = env.open("/disk/store/reserve", Env::Mode::write).take();
    ASSERT_TRUE(reserve->truncate(256 << 10).ok());
    ASSERT_TRUE(reserve->sync().ok());
  }
  store = open();
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t number = 1; number <= 33'000; ++number) {
    auto epoch = store->begin_epoch("vm", number, {}, {{ObjectClass::ram, "ram", 4096, 4096, 0}});
    ASSERT_TRUE(epoch.ok() && (*epoch)->commit({}).ok());
    numbers.push_back(number);
  }
  numbers.pop_back();
  ASSERT_GT(numbers.size() * sizeof numbers[0], 256u << 10);
  env.set_capacity(env.used_bytes());
  Status removed = store->remove("vm", numbers);
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  store.reset();
  store = open();
  EXPECT_EQ(store->checkpoints("vm")->size(), 1u);
}

// There is a reserve when it has its size, and not before.
TEST_F(StoreReclaim, AReserveThatFoundNoRoomIsTakenLater) {
  const std::string reserve = "/disk/store/reserve";
  const std::uint64_t whole = env.file_size(reserve);
  ASSERT_GE(whole, 1u << 20);
  commit("vm", 1, {}, 0, 1, 1000);
  commit("vm", 2, {}, 0, 1, 2000);
  store.reset();
  ASSERT_TRUE(env.open(reserve, Env::Mode::write).take()->truncate(whole / 4).ok());
  env.arm(Fault::short_write, 0);
  store = open();
  EXPECT_TRUE(env.taken());
  env.disarm();
  EXPECT_EQ(env.file_size(reserve), whole / 4) << "what it did not get whole is given back";
  store.reset();
  ASSERT_TRUE(env.remove(reserve).ok());
  env.set_capacity(env.used_bytes());
  store = open();
  env.set_capacity(1 << 30);
  collect_all();
  EXPECT_EQ(env.file_size(reserve), whole);
  env.set_capacity(env.used_bytes());
  remove("vm", {1});
}

TEST_F(StoreReclaim, ASegmentsIdIsNotUsedAgainAlthoughTheDiskWasFull) {
  commit("vm", 1, {}, 0, 1, 1000);
  store.reset();
  store = open();
  commit("vm", 2, {}, 0, 1, 2000);
  store.reset();
  store = open();
  std::string last = env.list("/disk/store/segments").take().back();
  remove("vm", {2});
  ASSERT_TRUE(env.remove("/disk/store/reserve").ok());
  env.set_capacity(env.used_bytes());
  auto freed = store->collect();
  ASSERT_FALSE(freed.ok());
  EXPECT_EQ(freed.error().code, Code::no_space);
  env.set_capacity(1 << 30);
  store.reset();
  store = open();
  EXPECT_GT(collect_all(), 0u);
  commit("vm", 3, {}, 0, 1, 3000);
  EXPECT_GT(env.list("/disk/store/segments").take().back(), last);
}

TEST_F(StoreReclaim, ARandomWorkloadNeverLosesLiveDataAndGivesSpaceBack) {
  for (std::uint64_t seed = 1; seed <= 15; ++seed) {
    FaultEnv disk(seed);
    ASSERT_TRUE(disk.make_directory("/disk").ok());
    Workload workload(disk, seed);
    Status status = workload.run(150);
    ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status.error().message();
    ASSERT_EQ(difference(*workload.store(), workload.model()), "") << "seed " << seed;
    workload.close();
    ASSERT_TRUE(workload.open().ok());
    Store& all = *workload.store();
    for (const auto& machine : all.machines()) {
      auto listed = all.checkpoints(machine.name).take();
      for (const auto& checkpoint : listed) {
        for (const auto& holder : checkpoint.pins) ASSERT_TRUE(all.unpin(checkpoint.id, holder).ok());
      }
      ASSERT_TRUE(all.forget_machine(machine.name).ok());
    }
    for (auto freed = all.collect(); freed.ok() && *freed > 0;) freed = all.collect();
    EXPECT_EQ(all.stats().stored_bytes, 0u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace ckpt
