// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ckpt/store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "ckpt/env.h"
#include "unit/temp_dir.h"

namespace ckpt {
namespace {

using Buffer = std::vector<std::uint8_t>;

Buffer random_bytes(std::size_t size, std::uint32_t seed) {
  std::mt19937 engine(seed);
  Buffer bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(engine() & 0x3F);
  return bytes;
}

#define ASSERT_OK(expression)                                                           \
  do {                                                                                  \
    const auto& ok_result = (expression);                                               \
    ASSERT_TRUE(ok_result.ok()) << (ok_result.ok() ? "" : ok_result.error().message()); \
  } while (0)

class StoreTest : public ::testing::Test {
protected:
  void SetUp() override {
    open();
    ASSERT_OK(store->add_machine("vm", {}));
  }
  void open(bool read_only = false) {
    store.reset();
    auto opened = Store::open(Env::system(), dir / "store", {.create = !read_only, .read_only = read_only});
    ASSERT_OK(opened);
    store = opened.take();
  }
  std::vector<Object> objects(std::uint64_t ram = 1 << 20) {
    return {{ObjectClass::ram, "pc.ram", ram, 4096, 0}, {ObjectClass::device_state, "devices", 0, 0, 0}};
  }
  std::unique_ptr<EpochWriter> begin(std::uint64_t number, std::uint64_t parent, std::uint64_t ram = 1 << 20) {
    EpochBase base;
    if (parent != 0) base.parent = {"vm", parent};
    auto epoch = store->begin_epoch("vm", number, base, objects(ram));
    EXPECT_TRUE(epoch.ok()) << epoch.error().message();
    return epoch.ok() ? epoch.take() : nullptr;
  }
  // Checkpoint 1: `data` from page 5 on, and 100 bytes of it in a last page that is not whole.
  std::unique_ptr<CheckpointReader> committed_with_gaps(const Buffer& data) {
    auto epoch = begin(1, 0, (1 << 20) + 100);
    EXPECT_TRUE(epoch->write(0, 5 * 4096, data).ok());
    EXPECT_TRUE(epoch->write(0, 1 << 20, std::span(data).first(100)).ok());
    EXPECT_TRUE(epoch->commit({}).ok());
    return store->open_checkpoint({"vm", 1}).take();
  }
  Buffer content(std::uint64_t number, std::size_t object = 0, const std::string& machine = "vm") {
    auto reader = store->open_checkpoint({machine, number});
    EXPECT_TRUE(reader.ok()) << (reader.ok() ? "" : reader.error().message());
    if (!reader.ok()) return {};
    Buffer bytes((*reader)->objects()[object].size_bytes);
    Status status = (*reader)->read(object, 0, bytes);
    EXPECT_TRUE(status.ok()) << (status.ok() ? "" : status.error().message());
    return bytes;
  }

  TempDir dir;
  std::unique_ptr<Store> store;
};

TEST_F(StoreTest, WhatIsCommittedIsReadAfterReopening) {
  Buffer model(1 << 20);
  Buffer some = random_bytes(70'000, 1);
  auto epoch = begin(1, 0);
  ASSERT_OK(epoch->write(0, 8192, some));
  std::copy(some.begin(), some.end(), model.begin() + 8192);
  Buffer devices = random_bytes(5000, 2);
  ASSERT_OK(epoch->write(1, 0, std::span(devices).first(1000)));
  ASSERT_OK(epoch->write(1, 1000, std::span(devices).subspan(1000)));
  EpochInfo info{.wall_clock_ns = 5, .vm_clock_ns = 6, .pause_us = 7, .qemu_version = "10.0", .machine_type = "q35"};
  auto made = epoch->commit(info);
  ASSERT_OK(made);
  EXPECT_EQ(made->data_bytes, 75'000u);
  EXPECT_EQ(content(1), model);
  epoch.reset();  // holds the store open
  open();
  EXPECT_EQ(content(1), model);
  EXPECT_EQ(content(1, 1), devices);
  auto reader = store->open_checkpoint({"vm", 1});
  ASSERT_OK(reader);
  EXPECT_EQ((*reader)->epoch().qemu_version, "10.0");
  EXPECT_EQ((*reader)->epoch().pause_us, 7u);
  open(true);
  EXPECT_EQ(content(1), model);
}

TEST_F(StoreTest, WhatACheckpointSaysOfItsGuestIsReadAfterReopening) {
  for (std::uint64_t number = 1; number <= 4; ++number) {
    EpochInfo info;
    info.application_consistent = number % 2 == 1;
    info.frozen = number > 2;
    ASSERT_OK(begin(number, 0)->commit(info));
  }
  open();
  for (std::uint64_t number = 1; number <= 4; ++number) {
    auto info = store->checkpoint({"vm", number}).take();
    EXPECT_EQ(info.application_consistent, number % 2 == 1) << number;
    EXPECT_EQ(info.frozen, number > 2) << number;
    EXPECT_EQ(store->open_checkpoint({"vm", number}).take()->epoch().frozen, number > 2);
  }
}

TEST_F(StoreTest, AnEpochSharesWhatItDidNotChange) {
  Buffer model = random_bytes(1 << 20, 3);
  auto first = begin(1, 0);
  ASSERT_OK(first->write(0, 0, model));
  ASSERT_OK(first->commit({}));
  Buffer old = model;
  auto second = begin(2, 1);
  Buffer piece = random_bytes(512, 4);
  ASSERT_OK(second->write(0, 4096 * 7 + 512, piece));
  std::copy(piece.begin(), piece.end(), model.begin() + 4096 * 7 + 512);
  ASSERT_OK(second->zero(0, 10'000, 100'000));
  std::fill_n(model.begin() + 10'000, 100'000, std::uint8_t{0});
  auto made = second->commit({});
  ASSERT_OK(made);
  EXPECT_LT(made->stored_bytes, 20'000u);
  EXPECT_EQ(made->parent.number, 1u);
  EXPECT_EQ(content(1), old);
  EXPECT_EQ(content(2), model);
  auto newer = store->open_checkpoint({"vm", 2});
  auto older = store->open_checkpoint({"vm", 1});
  auto changed = (*newer)->changed_pages(0, **older);
  ASSERT_OK(changed);
  std::vector<std::uint64_t> expected;
  for (std::uint64_t page = 0; page < 256; ++page) {
    if (!std::equal(model.begin() + page * 4096, model.begin() + (page + 1) * 4096, old.begin() + page * 4096)) {
      expected.push_back(page);
    }
  }
  EXPECT_EQ(*changed, expected);
}

TEST_F(StoreTest, AnEpochMayBuildUponOneThatIsOnlyClosed) {
  Buffer model = random_bytes(1 << 20, 5);
  auto first = begin(1, 0);
  ASSERT_OK(first->write(0, 0, model));
  auto next = store->begin_epoch("vm", 2, {.closed = first.get()}, objects());
  ASSERT_OK(next);
  Buffer piece = random_bytes(100, 6);
  ASSERT_OK((*next)->write(0, 5000, piece));
  Buffer late = random_bytes(4096, 7);
  ASSERT_OK(first->write(0, 40960, late));  // copied behind the pause
  std::copy(late.begin(), late.end(), model.begin() + 40960);
  Buffer second = model;
  std::copy(piece.begin(), piece.end(), second.begin() + 5000);
  ASSERT_OK(first->commit({}));
  first.reset();
  ASSERT_OK((*next)->commit({}));
  EXPECT_EQ(content(1), model);
  EXPECT_EQ(content(2), second);
}

TEST_F(StoreTest, AnEpochWhoseBaseWasAbandonedCannotBeCommitted) {
  auto first = begin(1, 0);
  auto next = store->begin_epoch("vm", 2, {.closed = first.get()}, objects());
  ASSERT_OK(next);
  first.reset();
  auto made = (*next)->commit({});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, Code::invalid);
  EXPECT_EQ(store->checkpoints("vm")->size(), 0u);
}

TEST_F(StoreTest, ObjectsGrowAndShrink) {
  std::mt19937 engine(8);
  Buffer model;
  for (std::uint64_t number = 1; number < 60; ++number) {
    std::uint64_t size = engine() % 3 == 0 ? engine() % (2 << 20) : model.size();
    if (number % 10 == 0) size = engine() % 9000;
    auto epoch = begin(number, number - 1, size);
    ASSERT_TRUE(epoch);
    model.resize(size);
    for (int i = 0; i < 4 && size > 0; ++i) {
      std::uint64_t offset = engine() % size;
      std::uint64_t length = std::min<std::uint64_t>(engine() % 20'000, size - offset);
      if (i == 3 && engine() % 4 == 0) length = size - offset;
      if (engine() % 2 == 0) {
        ASSERT_OK(epoch->zero(0, offset, length));
        std::fill_n(model.begin() + offset, length, std::uint8_t{0});
      } else {
        Buffer data = random_bytes(length, engine());
        ASSERT_OK(epoch->write(0, offset, data));
        std::copy(data.begin(), data.end(), model.begin() + offset);
      }
    }
    ASSERT_OK(epoch->commit({}));
    ASSERT_EQ(content(number), model) << "epoch " << number;
  }
}

TEST_F(StoreTest, IdenticalPagesAreStoredOnce) {
  Buffer page = random_bytes(4096, 9);
  auto first = begin(1, 0);
  for (int i = 0; i < 100; ++i) ASSERT_OK(first->write(0, i * 4096, page));
  auto made = first->commit({});
  ASSERT_OK(made);
  EXPECT_LT(made->stored_bytes, 8000u);
  first.reset();
  open();
  auto second = begin(2, 0);
  for (int i = 50; i < 200; ++i) ASSERT_OK(second->write(0, i * 4096, page));
  made = second->commit({});
  ASSERT_OK(made);
  EXPECT_LT(made->stored_bytes, 2000u);  // found again after reopening
}

TEST_F(StoreTest, ExtentsAndPages) {
  Buffer data = random_bytes(3 * 4096, 10);
  auto reader = committed_with_gaps(data);
  auto extents = reader->extents(0, 0, (1 << 20) + 100, 100);
  ASSERT_OK(extents);
  ASSERT_EQ(extents->size(), 4u);
  EXPECT_TRUE((*extents)[0].zero);
  EXPECT_EQ((*extents)[1].offset, 5u * 4096);
  EXPECT_EQ((*extents)[1].length, 3u * 4096);
  EXPECT_EQ((*extents)[3].length, 100u);
  EXPECT_EQ(reader->extents(0, 0, 1 << 20, 2)->size(), 2u);
  std::array<std::uint8_t, 4096> page;
  EXPECT_FALSE(*reader->read_page(0, 0, page));
  EXPECT_TRUE(*reader->read_page(0, 6, page));
  EXPECT_TRUE(std::equal(page.begin(), page.end(), data.begin() + 4096));
  EXPECT_TRUE(*reader->read_page(0, 256, page));
  EXPECT_EQ(page[100], 0);
  EXPECT_EQ(reader->read_page(0, 257, page).error().code, Code::invalid);
}

TEST_F(StoreTest, AFrameComesAsAWhole) {
  Buffer data = random_bytes(12 * 4096, 10);
  auto reader = committed_with_gaps(data);
  auto places = reader->places(0, 0, 257).take();
  ASSERT_EQ(places.size(), 13u);
  EXPECT_EQ(places.front().page, 5u);
  EXPECT_EQ(places.back().page, 256u);
  EXPECT_TRUE(reader->places(0, 17, 256)->empty());
  EXPECT_TRUE(reader->places(0, 9, 9)->empty());
  EXPECT_EQ(reader->places(0, 0, 258).error().code, Code::invalid);
  auto frames = reader->frames(1);
  EXPECT_FALSE(frames->has(places[0].place));
  for (std::size_t at = 0; at < places.size();) {
    auto pages = frames->read(std::span(places).subspan(at), 0);
    ASSERT_OK(pages);
    EXPECT_TRUE(frames->has(places[at].place));
    for (std::size_t i = 0; i < pages->size(); ++i) {
      std::uint64_t page = places[at + i].page;
      std::array<std::uint8_t, 4096> wanted;
      EXPECT_TRUE(*reader->read_page(0, page, wanted));
      EXPECT_EQ(std::memcmp((*pages)[i], wanted.data(), wanted.size()), 0) << page;
      EXPECT_TRUE(i == 0 || page == 256 || (*pages)[i] == (*pages)[i - 1] + 4096);
    }
    EXPECT_TRUE(at > 0 || pages->size() == 4) << pages->size();
    at += pages->size();
  }
  EXPECT_FALSE(frames->has(places[0].place)) << "one was to be kept";
  ASSERT_OK(frames->read(std::span(places).subspan(3, 1), 0));
  EXPECT_TRUE(frames->has(places[0].place));
  EXPECT_EQ(frames->read({}, 0).error().code, Code::invalid);
}

TEST_F(StoreTest, AReaderNeedNotScanWhatWasPinnedForIt) {
  auto footers = [&] {
    int count = 0;
    for (const auto& segment : std::filesystem::directory_iterator(dir / "store/segments")) {
      std::ifstream file(segment.path(), std::ios::binary);
      file.seekg(-32, std::ios::end);
      char magic[8] = {};
      file.read(magic, sizeof magic);
      count += std::string_view(magic, sizeof magic) == "CKPTSEGF";
    }
    return count;
  };
  for (std::uint64_t number : {1, 2}) {
    auto epoch = begin(number, number - 1, 4 << 20);
    Buffer data = random_bytes(number == 1 ? 3 << 20 : 4096, static_cast<std::uint32_t>(number));
    ASSERT_OK(epoch->write(0, 0, data));
    ASSERT_OK(epoch->commit({}));
    epoch.reset();
    EXPECT_EQ(footers(), number == 1 ? 0 : 1);
    ASSERT_OK(store->pin({"vm", number}, "restore"));
    EXPECT_EQ(footers(), 1) << "to scan a small one is no work";
  }
  for (bool read_only : {true, false}) {
    open(read_only);
    EXPECT_EQ(content(1).size(), 4u << 20);
    EXPECT_EQ(content(2).size(), 4u << 20);
  }
}

TEST_F(StoreTest, WhatIsPreparedIsOpen) {
  // So small that the pages are not in the segment of the nodes.
  store.reset();
  store = Store::open(Env::system(), dir / "store", {.segment_size_bytes = 4096}).take();
  Buffer data = random_bytes(8 * 4096, 11);
  auto epoch = begin(1, 0);
  ASSERT_OK(epoch->write(0, 4096, data));
  ASSERT_OK(epoch->commit({}));
  epoch.reset();
  auto away = [&](bool yes) {
    std::filesystem::rename(dir / (yes ? "store/segments" : "away"), dir / (yes ? "away" : "store/segments"));
  };
  for (bool prepared : {false, true}) {
    open(true);
    auto reader = store->open_checkpoint({"vm", 1}).take();
    if (prepared) {
      ASSERT_OK(reader->prepare(0, 0, 9));
    }
    auto places = reader->places(0, 0, 9).take();
    away(true);
    EXPECT_EQ(reader->frames(1)->read(places, 0).ok(), prepared);
    away(false);
  }
}

TEST_F(StoreTest, NamesPinsAndRemoval) {
  for (std::uint64_t number = 1; number <= 4; ++number) {
    auto epoch = begin(number, number - 1);
    Buffer data = random_bytes(4096, number);
    ASSERT_OK(epoch->write(0, number * 4096, data));
    ASSERT_OK(epoch->commit({}));
  }
  ASSERT_OK(store->name({"vm", 2}, "before"));
  EXPECT_EQ(store->name({"vm", 3}, "before").error().code, Code::exists);
  ASSERT_OK(store->pin({"vm", 2}, "restore"));
  std::vector<std::uint64_t> numbers{1, 2};
  EXPECT_EQ(store->remove("vm", numbers).error().code, Code::busy);
  numbers = {1, 3};
  ASSERT_OK(store->remove("vm", numbers));
  open();
  auto left = store->checkpoints("vm");
  ASSERT_EQ(left->size(), 2u);
  EXPECT_EQ((*left)[0].name, "before");
  EXPECT_EQ((*left)[0].pins, std::vector<std::string>{"restore"});
  EXPECT_EQ(store->forget_machine("vm").error().code, Code::busy);
  ASSERT_OK(store->unpin({"vm", 2}, "restore"));
  numbers = {2, 4};
  ASSERT_OK(store->remove("vm", numbers));
  EXPECT_EQ(store->machines()[0].last_number, 4u);
  EXPECT_EQ(store->begin_epoch("vm", 4, {}, objects()).error().code, Code::invalid);
  ASSERT_OK(store->forget_machine("vm"));
  EXPECT_EQ(store->checkpoints("vm").error().code, Code::not_found);
  ASSERT_OK(store->add_machine("vm", {}));
}

TEST_F(StoreTest, AStoreHasOneWriter) {
  auto other = Store::open(Env::system(), dir / "store", {});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, Code::busy);
  EXPECT_NE(other.error().context.find(std::to_string(::getpid())), std::string::npos);
}

TEST_F(StoreTest, AReaderSeesWhatIsAddedAfterRefresh) {
  auto reader = Store::open(Env::system(), dir / "store", {.read_only = true}).take();
  EXPECT_EQ(reader->checkpoints("vm")->size(), 0u);
  auto epoch = begin(1, 0);
  Buffer data = random_bytes(100'000, 11);
  ASSERT_OK(epoch->write(0, 0, data));
  ASSERT_OK(epoch->commit({}));
  ASSERT_OK(reader->refresh());
  auto checkpoint = reader->open_checkpoint({"vm", 1});
  ASSERT_OK(checkpoint);
  Buffer back(100'000);
  ASSERT_OK((*checkpoint)->read(0, 0, back));
  EXPECT_EQ(back, data);
  EXPECT_EQ(reader->add_machine("other", {}).error().code, Code::refused);
}

TEST_F(StoreTest, AReaderTellsAStoreThatIsAwayFromASegmentThatIsGone) {
  Buffer first = random_bytes(4096, 1), page(4096);
  auto epoch = begin(1, 0);
  ASSERT_OK(epoch->write(0, 0, first));
  ASSERT_OK(epoch->commit({}));
  epoch.reset();
  open();  // each opening begins a segment
  epoch = begin(2, 1);
  ASSERT_OK(epoch->write(0, 9 * 4096, random_bytes(4096, 2)));
  ASSERT_OK(epoch->commit({}));
  epoch.reset();
  for (std::string away : {dir / "store", dir / "store/segments"}) {
    open(true);
    auto reader = store->open_checkpoint({"vm", 2}).take();
    std::filesystem::rename(away, dir / "away");
    EXPECT_EQ(reader->read(0, 0, page).error().code, Code::unavailable);
    std::filesystem::rename(dir / "away", away);
    ASSERT_OK(reader->read(0, 0, page));
    EXPECT_EQ(page, first);
  }
  open(true);
  auto reader = store->open_checkpoint({"vm", 2}).take();
  std::filesystem::remove(dir / "store/segments/0000000000000001.seg");
  EXPECT_EQ(reader->read(0, 0, page).error().code, Code::corrupt);
}

TEST_F(StoreTest, AbandonedEpochsLeaveNothing) {
  auto epoch = begin(1, 0);
  Buffer data = random_bytes(100'000, 12);
  ASSERT_OK(epoch->write(0, 0, data));
  epoch.reset();
  open();
  EXPECT_EQ(store->checkpoints("vm")->size(), 0u);
  EXPECT_EQ(store->machines()[0].last_number, 0u);
  ASSERT_TRUE(begin(1, 0));
}

TEST_F(StoreTest, BadArgumentsAreRefused) {
  EXPECT_EQ(store->add_machine("-x", {}).error().code, Code::invalid);
  EXPECT_EQ(store->add_machine("vm", {}).error().code, Code::exists);
  EXPECT_EQ(store->begin_epoch("none", 1, {}, objects()).error().code, Code::not_found);
  EXPECT_EQ(store->begin_epoch("vm", 1, {.parent = {"vm", 9}}, objects()).error().code, Code::not_found);
  auto twice = objects();
  twice.push_back(twice[0]);
  EXPECT_EQ(store->begin_epoch("vm", 1, {}, twice).error().code, Code::invalid);
  auto epoch = begin(1, 0);
  Buffer data(4096, 1);
  EXPECT_EQ(epoch->write(0, (1 << 20) - 100, data).error().code, Code::invalid);
  EXPECT_EQ(epoch->write(0, ~0ull - 100, data).error().code, Code::invalid);
  EXPECT_EQ(epoch->write(9, 0, data).error().code, Code::invalid);
  EXPECT_EQ(Store::open(Env::system(), dir / "nowhere", {}).error().code, Code::not_found);
}

}  // namespace

TEST(CheckpointId, IsReadAsItIsWritten) {
  EXPECT_EQ(to_string({"web.1", 42}), "web.1@42");
  for (std::string machine : {"vm", "a@b"}) {
    CheckpointId id{machine, 18'446'744'073'709'551'615u};
    EXPECT_EQ(*parse_checkpoint_id(to_string(id)), id);
  }
  for (std::string text :
       {"", "@", "vm", "vm@", "@1", "vm@0", "vm@-1", "vm@+1", "vm@1x", "vm@ 1", "vm@18446744073709551616"})
    EXPECT_EQ(parse_checkpoint_id(text).error().code, Code::invalid) << text;
}

}  // namespace ckpt
