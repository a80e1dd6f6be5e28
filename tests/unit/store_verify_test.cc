// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Flipped bits are found, named, and never served.
#include <gtest/gtest.h>

#include <algorithm>

#include "store/journal_file.h"
#include "store/local_backend.h"
#include "unit/fault_env.h"
#include "unit/store_model.h"

namespace ckpt {
namespace {

struct Disk {
  explicit Disk(std::uint64_t seed) : env(seed), workload(env, seed) {
    EXPECT_TRUE(env.make_directory("/disk").ok());
    EXPECT_TRUE(workload.run(40).ok());
    workload.close();
  }
  std::vector<std::string> files(const std::string& folder) {
    std::vector<std::string> paths;
    auto names = env.list(folder).take();
    for (const std::string& name : names) paths.push_back(folder + "/" + name);
    return paths;
  }
  FaultEnv env;
  Workload workload;
};

// Every byte that is served is right; returns whether something was refused as corrupt.
bool read_all(Store& store, const Model& model) {
  bool refused = false;
  for (const auto& [machine, checkpoints] : model) {
    for (const auto& [number, expected] : checkpoints) {
      auto reader = store.open_checkpoint({machine, number});
      if (!reader) {
        EXPECT_TRUE(reader.error().code == Code::corrupt || reader.error().code == Code::version)
            << reader.error().message();
        refused = true;
        continue;
      }
      for (std::size_t i = 0; i < expected.contents.size(); ++i) {
        std::vector<std::uint8_t> bytes(expected.contents[i].size());
        Status status = (*reader)->read(i, 0, bytes);
        if (status) {
          EXPECT_EQ(bytes, expected.contents[i]) << "served what was not written";
        } else {
          EXPECT_TRUE(status.error().code == Code::corrupt || status.error().code == Code::version)
              << status.error().message();
          EXPECT_NE(status.error().context.find("seg"), std::string::npos) << status.error().context;
          refused = true;
        }
      }
    }
  }
  return refused;
}

TEST(StoreVerify, AHealthyStoreHasNoDamage) {
  Disk disk(3);
  ASSERT_TRUE(disk.workload.open().ok());
  auto verified = disk.workload.store()->verify({}, nullptr, nullptr);
  ASSERT_TRUE(verified.ok());
  EXPECT_TRUE(verified->damages.empty());
}

TEST(StoreVerify, ItCanBeCancelled) {
  Disk disk(3);
  ASSERT_TRUE(disk.workload.open().ok());
  auto result = disk.workload.store()->verify(
      {}, [](void*, const VerifyProgress&) { return false; }, nullptr);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->cancelled);
}

TEST(StoreVerify, ItSaysHowManyItLookedAtWhateverIsCommittedMeanwhile) {
  Disk disk(3);
  ASSERT_TRUE(disk.workload.open().ok());
  Store& store = *disk.workload.store();
  std::uint64_t before = store.stats().checkpoints;
  ASSERT_GT(before, 0u);
  auto commit = [](void* context, const VerifyProgress&) { return static_cast<Workload*>(context)->commit_one().ok(); };
  auto verified = store.verify({}, commit, &disk.workload);
  ASSERT_TRUE(verified.ok()) << verified.error().message();
  EXPECT_GT(store.stats().checkpoints, before);
  EXPECT_EQ(verified->checkpoints, before);
}

// Also of a single checkpoint, most of which its ancestors stored.
TEST(StoreVerify, ProgressEndsAtItsTotal) {
  Disk disk(3);
  ASSERT_TRUE(disk.workload.open().ok());
  Store& store = *disk.workload.store();
  std::vector<std::vector<CheckpointId>> choices(1);
  for (const auto& [machine, checkpoints] : disk.workload.model()) {
    for (const auto& [number, expected] : checkpoints) choices.push_back({{machine, number}});
  }
  ASSERT_GT(choices.size(), 3u);
  for (const auto& ids : choices) {
    std::vector<VerifyProgress> told;
    auto note = [](void* context, const VerifyProgress& progress) {
      static_cast<std::vector<VerifyProgress>*>(context)->push_back(progress);
      return true;
    };
    ASSERT_TRUE(store.verify(ids, note, &told).ok());
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.back().done_bytes, told.back().total_bytes);
    EXPECT_LE(told.back().total_bytes, store.stats().stored_bytes);
    for (const VerifyProgress& progress : told) {
      if (progress.done_bytes == 0) continue;
      EXPECT_EQ(progress.total_bytes, told.back().total_bytes);
    }
  }
}

TEST(StoreVerify, AFlippedBitAnywhereInASegmentIsNeverServed) {
  int found = 0;
  int unseen = 0;
  for (std::uint64_t round = 0; round < 120; ++round) {
    Disk disk(1 + round % 6);
    std::mt19937_64 engine(round);
    auto paths = disk.files("/disk/store/segments");
    ASSERT_FALSE(paths.empty());
    const std::string& path = paths[engine() % paths.size()];
    ASSERT_TRUE(disk.env.flip_bit(path, engine() % (disk.env.file_size(path) * 8)));
    ASSERT_TRUE(disk.workload.open().ok());
    bool refused = read_all(*disk.workload.store(), disk.workload.model());
    auto verified = disk.workload.store()->verify({}, nullptr, nullptr);
    ASSERT_TRUE(verified.ok()) << verified.error().message();
    // What is refused is found; a footer or a dead chunk may be bad without harm.
    EXPECT_EQ(refused, !verified->damages.empty());
    for (const Damage& damage : verified->damages) {
      EXPECT_FALSE(damage.checkpoints.empty());
      EXPECT_NE(damage.place.find("segments/"), std::string::npos);
    }
    (refused ? found : unseen)++;
  }
  EXPECT_GT(found, 30);
  std::printf("flips: %d found, %d harmless\n", found, unseen);
}

// What a full copy brings again must not come to rest on the damaged bytes that it replaces.
TEST(StoreVerify, NothingNewRestsOnDamage) {
  FaultEnv env(1);
  ASSERT_TRUE(env.make_directory("/disk").ok());
  StoreOptions options;
  options.create = true;
  auto store = Store::open(env, "/disk/store", options).take();
  ASSERT_TRUE(store->add_machine("m", {}).ok());
  std::vector<std::uint8_t> content(64 * page_size_bytes);
  std::mt19937_64 engine(7);
  for (auto& byte : content) byte = static_cast<std::uint8_t>(engine());
  auto copy = [&](std::uint64_t number) {
    auto epoch = store->begin_epoch("m", number, {}, {{ObjectClass::ram, "ram", content.size(), 4096, 0}}).take();
    return epoch->write(0, 0, content).ok() && epoch->commit({}).ok();
  };
  ASSERT_TRUE(copy(1));
  store.reset();
  auto names = env.list("/disk/store/segments").take();
  ASSERT_EQ(names.size(), 1u);
  ASSERT_TRUE(env.flip_bit("/disk/store/segments/" + names[0], 8 * 20000));
  store = Store::open(env, "/disk/store", options).take();
  auto verified = store->verify({}, nullptr, nullptr);
  ASSERT_TRUE(verified.ok());
  ASSERT_FALSE(verified->damages.empty());
  ASSERT_TRUE(copy(2));
  std::vector<std::uint8_t> bytes(content.size());
  auto reader = store->open_checkpoint({"m", 2}).take();
  Status status = reader->read(0, 0, bytes);
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_EQ(bytes, content);
}

TEST(StoreVerify, AFlippedBitInTheJournalOpensReadOnly) {
  for (std::uint64_t round = 0; round < 80; ++round) {
    Disk disk(1 + round % 6);
    std::mt19937_64 engine(round);
    std::uint64_t bits = disk.env.file_size("/disk/store/journal") * 8;
    ASSERT_TRUE(disk.env.flip_bit("/disk/store/journal", 64 * 8 + engine() % (bits - 64 * 8 - 8 * 400)));
    Status status = disk.workload.open();
    ASSERT_TRUE(status.ok()) << status.error().message();
    StoreStats stats = disk.workload.store()->stats();
    EXPECT_TRUE(stats.damaged);
    EXPECT_EQ(disk.workload.store()->add_machine("new", {}).error().code, Code::refused);
    EXPECT_NE(disk.workload.store()->add_machine("new", {}).error().context.find("journal offset"), std::string::npos);
  }
}

// Checkpoints 1 to 12 of machine m, each of other bytes, and then a name for the last one.
struct History {
  static constexpr std::uint64_t count = 12;
  History() : env(1) {
    EXPECT_TRUE(env.make_directory("/disk").ok());
    open();
    EXPECT_TRUE(store->add_machine("m", {}).ok());
    for (std::uint64_t number = 1; number <= count; ++number) {
      EXPECT_TRUE(commit(number));
      ends.push_back(journal_bytes());
    }
    EXPECT_TRUE(store->name({"m", count}, "last").ok());
    store.reset();
  }
  void open() {
    auto opened = Store::open(env, "/disk/store", {.create = true});
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    store = opened.take();
  }
  static std::vector<std::uint8_t> content(std::uint64_t number) {
    std::vector<std::uint8_t> bytes(4 * page_size_bytes);
    std::mt19937_64 engine(number);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(engine());
    return bytes;
  }
  bool commit(std::uint64_t number) {
    auto bytes = content(number);
    auto epoch = store->begin_epoch("m", number, {}, {{ObjectClass::ram, "ram", bytes.size(), 4096, 0}});
    return epoch.ok() && (*epoch)->write(0, 0, bytes).ok() && (*epoch)->commit({}).ok();
  }
  // Checkpoints 1 to `kept` and no other are there, as they were written.
  void expect_kept(std::uint64_t kept) {
    auto listed = store->checkpoints("m");
    ASSERT_EQ(listed.ok() ? listed->size() : 0, kept);
    for (std::uint64_t number = 1; number <= kept; ++number) {
      auto reader = store->open_checkpoint({"m", number});
      ASSERT_TRUE(reader.ok()) << reader.error().message();
      std::vector<std::uint8_t> bytes(4 * page_size_bytes);
      Status status = (*reader)->read(0, 0, bytes);
      ASSERT_TRUE(status.ok()) << status.error().message();
      EXPECT_EQ(bytes, content(number)) << number;
    }
  }
  std::uint64_t journal_bytes() const { return env.file_size("/disk/store/journal"); }

  FaultEnv env;
  std::unique_ptr<Store> store;
  std::vector<std::uint64_t> ends;  // of the journal, after each checkpoint
};

TEST(StoreVerify, WhatWasCommittedBeforeAFlippedBitInTheJournalIsReadBack) {
  std::mt19937_64 engine(3);
  for (int round = 0; round < 60; ++round) {
    History history;
    std::uint64_t place = journal_header_bytes + engine() % (history.ends.back() - journal_header_bytes);
    ASSERT_TRUE(history.env.flip_bit("/disk/store/journal", place * 8 + engine() % 8));
    SCOPED_TRACE("flip at " + std::to_string(place));
    history.open();
    EXPECT_TRUE(history.store->stats().damaged);
    auto behind = std::upper_bound(history.ends.begin(), history.ends.end(), place);
    history.expect_kept(static_cast<std::uint64_t>(behind - history.ends.begin()));
    EXPECT_FALSE(history.commit(History::count + 1));
  }
}

// As if its writing had been interrupted.
TEST(StoreVerify, AFlippedBitInTheJournalsLastRecordCutsOnlyThat) {
  std::mt19937_64 engine(4);
  for (int round = 0; round < 20; ++round) {
    History history;
    std::uint64_t last = history.ends.back();
    std::uint64_t place = last + engine() % (history.journal_bytes() - last);
    ASSERT_TRUE(history.env.flip_bit("/disk/store/journal", place * 8 + engine() % 8));
    SCOPED_TRACE("flip at " + std::to_string(place));
    history.open();
    EXPECT_FALSE(history.store->stats().damaged);
    history.expect_kept(History::count);
    EXPECT_EQ(history.store->checkpoint({"m", History::count})->name, "");
    EXPECT_TRUE(history.commit(History::count + 1));
    history.store.reset();
    history.open();
    EXPECT_FALSE(history.store->stats().damaged);
    history.expect_kept(History::count + 1);
  }
}

// The journal by itself, longer than it is read at once: what is before the flip is read, and only a flip in the last
// record is taken for an interrupted write.
TEST(StoreVerify, AFlippedBitInALongJournalIsFoundWhereverItIs) {
  constexpr std::uint64_t window_bytes = 4 << 20;
  StoreUuid uuid{1, 2, 3};
  FaultEnv env(1);
  ASSERT_TRUE(env.make_directory("/disk").ok());
  auto backend = make_local_backend(env, "/disk");
  ASSERT_TRUE(JournalFile::create(*backend, uuid).ok());
  std::vector<JournalRecord> records;
  std::vector<std::uint64_t> starts;
  Bytes whole;
  encode_journal_header(whole, {uuid, 1});
  for (std::uint64_t i = 0; whole.size() < window_bytes + (window_bytes >> 1); ++i) {
    records.emplace_back(PinRecord{1, true, i, std::string(200 + i % 50, 'x')});
    starts.push_back(whole.size());
    encode_record(whole, i + 1, records.back());
  }
  {
    JournalFile journal(*backend, uuid);
    ASSERT_TRUE(journal.load(true, [](JournalRecord&&) { return Status(); }).ok());
    ASSERT_TRUE(journal.rewrite(records).ok());
  }
  ASSERT_EQ(env.file_size("/disk/journal"), whole.size());
  std::mt19937_64 engine(5);
  std::vector<std::uint64_t> places;
  for (int i = 0; i < 20; ++i)
    places.push_back(journal_header_bytes + engine() % (whole.size() - journal_header_bytes));
  for (int i = 0; i < 10; ++i) places.push_back(window_bytes - 300 + engine() % 600);
  for (int i = 0; i < 20; ++i) places.push_back(whole.size() - 1 - engine() % 400);
  for (std::uint64_t place : places) {
    std::uint64_t bit = place * 8 + engine() % 8;
    ASSERT_TRUE(env.flip_bit("/disk/journal", bit));
    auto behind = std::upper_bound(starts.begin(), starts.end(), place);
    auto hit = static_cast<std::size_t>(behind - starts.begin()) - 1;
    std::size_t read = 0;
    JournalFile journal(*backend, uuid);
    Status status = journal.load(false, [&read](JournalRecord&&) {
      ++read;
      return Status();
    });
    ASSERT_TRUE(status.ok()) << status.error().message();
    EXPECT_EQ(read, hit) << "flip at " << place;
    EXPECT_EQ(journal.damage().empty(), hit + 1 == records.size()) << "flip at " << place;
    ASSERT_TRUE(env.flip_bit("/disk/journal", bit));
  }
}

TEST(StoreVerify, AForeignOrNewerStoreIsRefused) {
  for (auto [text, code] : {std::pair<std::string, Code>{"ckpt-store 2 x\n", Code::version},
                            {"ckpt-store 1 12\n", Code::corrupt},
                            {"something else", Code::corrupt},
                            {"", Code::corrupt}}) {
    FaultEnv env(1);
    ASSERT_TRUE(env.make_directory("/disk").ok());
    ASSERT_TRUE(env.make_directory("/disk/store").ok());
    auto file = env.open("/disk/store/FORMAT", Env::Mode::write).take();
    ASSERT_TRUE(file->write_at(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}).ok());
    auto store = Store::open(env, "/disk/store", {});
    ASSERT_FALSE(store.ok());
    EXPECT_EQ(store.error().code, code) << text;
    EXPECT_NE(store.error().context.find("/disk/store"), std::string::npos);
  }
}

}  // namespace
}  // namespace ckpt
