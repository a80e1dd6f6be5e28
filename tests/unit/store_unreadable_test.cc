// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A disk that fails to read what is there: it costs what is in that place, and nothing else.
#include "unit/store_fixture.h"

namespace ckpt {
namespace {

class StoreUnreadable : public StoreFixture {
protected:
  static Status read_page(Store& from, CheckpointId id, std::uint64_t at) {
    CKPT_ASSIGN(auto reader, from.open_checkpoint(id));
    std::vector<std::uint8_t> page(page_size_bytes);
    return reader->read(0, at * page_size_bytes, page);
  }
  // One more epoch upon the newest checkpoint, which changes a part of page 0.
  Status continue_from(std::uint64_t number) {
    CKPT_ASSIGN(auto epoch, store->begin_epoch("vm", number + 1, {.parent = {"vm", number}}, objects()));
    CKPT_TRY(epoch->write(0, 100, std::vector<std::uint8_t>(200, 7)));
    CKPT_ASSIGN([[maybe_unused]] auto made, epoch->commit({}));
    return {};
  }
  // Checkpoint 1 of eight pages, a frame of which verification then finds damaged. The store is closed.
  void commit_and_find_damage() {
    commit("vm", 1, {}, 0, 8, 1000);
    Place place = newest(Kind::page);
    store.reset();
    ASSERT_TRUE(env.flip_bit(place.path, place.offset * 8));
    store = open();
    auto verified = store->verify({}, nullptr, nullptr);
    ASSERT_TRUE(verified.ok());
    EXPECT_EQ(verified->damages.size(), 4u);  // the pages of one frame
    store.reset();
  }
};

// io would say that the store cannot be written, and end the capture of every machine.
TEST_F(StoreUnreadable, WhatAnEpochBuildsUponIsDamagedAndACopyAnewIsGood) {
  for (Kind kind : {Kind::page, Kind::node, Kind::manifest}) {
    SCOPED_TRACE(static_cast<int>(kind));
    std::uint64_t first = 1 + 3 * static_cast<std::uint64_t>(kind);
    commit("vm", first, {}, 0, 3, 1000 * first);
    Place place = newest(kind);
    store.reset();
    env.set_bad(place.path, place.offset);
    store = open();
    Status status = continue_from(first);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::corrupt) << status.error().message();
    EXPECT_NE(status.error().message().find("a bad sector"), std::string::npos) << status.error().message();
    commit("vm", first + 1, {}, 0, 3, 1000 * first);
    commit("other", first, {}, 0, 1, 77);
    for (std::uint64_t at = 0; at < 3; ++at) expect_page(*store, {"vm", first + 1}, at, 1000 * first + at);
    EXPECT_TRUE(continue_from(first + 1).ok());
  }
}

// Also in the segment that is still being written.
TEST_F(StoreUnreadable, NothingNewRestsOnWhatWasNotReadJustNow) {
  commit("vm", 1, {}, 0, 3, 1000);
  Place place = newest(Kind::page);
  env.set_bad(place.path, place.offset);
  EXPECT_EQ(continue_from(1).error().code, Code::corrupt);
  commit("vm", 2, {}, 0, 3, 1000);
  for (std::uint64_t at = 0; at < 3; ++at) expect_page(*store, {"vm", 2}, at, 1000 + at);
}

TEST_F(StoreUnreadable, WhatWasDistrustedStaysSoAfterARestart) {
  ASSERT_NO_FATAL_FAILURE(commit_and_find_damage());
  env.power_cycle();
  store = open();
  commit("vm", 2, {}, 0, 8, 1000);
  for (std::uint64_t at = 0; at < 8; ++at) expect_page(*store, {"vm", 2}, at, 1000 + at);
  EXPECT_GT(env.file_size("/disk/store/distrusted"), 0u);
  remove("vm", {1});
  collect_all();
  EXPECT_EQ(env.file_size("/disk/store/distrusted"), 0u) << "it goes with the segment";
}

TEST_F(StoreUnreadable, AListOfDistrustedSegmentsThatIsNotWholeTrustsNone) {
  ASSERT_NO_FATAL_FAILURE(commit_and_find_damage());
  std::uint64_t bits = env.file_size("/disk/store/distrusted") * 8;
  ASSERT_GT(bits, 0u);
  ASSERT_TRUE(env.flip_bit("/disk/store/distrusted", bits - 1));
  store = open();
  commit("vm", 2, {}, 0, 8, 1000);
  for (std::uint64_t at = 0; at < 8; ++at) expect_page(*store, {"vm", 2}, at, 1000 + at);
}

// The rest of its segment is read past it: without the footer, or around the sector.
TEST_F(StoreUnreadable, APlaceThatCannotBeReadCostsWhatIsInIt) {
  for (bool sealed : {true, false}) {
    SCOPED_TRACE(sealed);
    std::uint64_t number = sealed ? 1 : 3, pages = 40;
    commit("vm", number, {}, 0, pages, 1000 * number);
    Place place = sealed ? places(Kind::page).front() : newest(Kind::page);
    if (!sealed) env.arm(Fault::power_cut, 0);
    store.reset();
    env.power_cycle();
    env.set_bad(place.path, sealed ? env.file_size(place.path) - 1 : place.offset);
    store = open();
    ASSERT_TRUE(store);
    for (bool read_only : {false, true}) {
      SCOPED_TRACE(read_only);
      auto reader = read_only ? open(true) : nullptr;
      Store& from = read_only ? *reader : *store;
      std::uint64_t lost = 0;
      for (std::uint64_t at = 0; at < pages; ++at) {
        auto page = read_page(from, {"vm", number}, at);
        if (page.ok()) expect_page(from, {"vm", number}, at, 1000 * number + at);
        if (page.ok()) continue;
        ++lost;
        EXPECT_EQ(page.error().code, Code::io) << page.error().message();
      }
      EXPECT_TRUE(sealed || lost > 0);
      EXPECT_LE(lost, 8u);  // of the frame that the sector is in, and of one beside it
    }
    // What is not read may come back: nothing is thrown away for it.
    collect_all();
    commit("vm", number + 1, {}, 0, 3, 1000 * number);
    for (std::uint64_t at = 0; at < 3; ++at) expect_page(*store, {"vm", number + 1}, at, 1000 * number + at);
    env.set_bad(place.path, sealed ? env.file_size(place.path) - 1 : place.offset, false);
    for (std::uint64_t at = 0; at < pages; ++at) {
      (void)read_page(*store, {"vm", number}, at);  // finds it readable again
      expect_page(*store, {"vm", number}, at, 1000 * number + at);
    }
  }
}

// Half of it dead, it would be rewritten without what is not in the table.
TEST_F(StoreUnreadable, ASegmentThatWasNotReadAsAWholeIsNotRewritten) {
  commit("vm", 1, {}, 0, 100, 1000);
  Place place = places(Kind::page).front();
  // Of its pages some stay alive, also those in the sector of its footer.
  commit("vm", 2, {"vm", 1}, 2, 8, 5000);
  store.reset();
  std::uint64_t last_byte = env.file_size(place.path) - 1;
  env.set_bad(place.path, last_byte);
  store = open();
  remove("vm", {1});
  collect_all();
  EXPECT_EQ(env.file_size(place.path), last_byte + 1);
  env.set_bad(place.path, last_byte, false);
  store.reset();
  store = open();
  for (std::uint64_t at = 10; at < 100; ++at) expect_page(*store, {"vm", 2}, at, 1000 + at);
}

// Nothing is known of the data then: it is not taken for damaged, neither now nor after a restart.
TEST_F(StoreUnreadable, AWantOfDescriptorsIsNoDamage) {
  commit("vm", 1, {}, 0, 3, 1000);
  store.reset();
  store = open();
  env.set_out_of_descriptors(true);
  Status status = continue_from(1);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::limit) << status.error().message();
  env.set_out_of_descriptors(false);
  EXPECT_TRUE(continue_from(1).ok());
  std::uint64_t before = env.used_bytes();
  commit("vm", 3, {}, 0, 3, 1000);
  EXPECT_LT(env.used_bytes() - before, 2 * page_size_bytes) << "the pages are stored already";
}

TEST_F(StoreUnreadable, ASegmentThatCannotBeRewrittenStopsNoOther) {
  commit("vm", 1, {}, 0, 200, 1000);
  Place place = places(Kind::page).front();
  commit("vm", 2, {"vm", 1}, 4, 196, 5000);
  // Of the old pages, four stay alive in each segment.
  commit("vm", 3, {"vm", 2}, 4, 4, 5000);
  for (std::uint64_t number = 4, at = 16; at < 200; ++number, at += 16) {
    commit("vm", number, {"vm", number - 1}, at, 4, 1000 + at);
  }
  std::uint64_t newest = store->checkpoints("vm")->back().id.number;
  std::vector<std::uint64_t> rest;
  for (std::uint64_t number = 1; number < newest; ++number) rest.push_back(number);
  remove("vm", rest);
  store.reset();
  env.set_bad(place.path, place.offset);
  store = open();
  EXPECT_GT(collect_all(), 400'000u);
  EXPECT_GT(env.file_size(place.path), 0u);
  expect_page(*store, {"vm", newest}, 16, 1016);
  expect_page(*store, {"vm", newest}, 199, 5195);
  env.set_bad(place.path, place.offset, false);
  expect_page(*store, {"vm", newest}, 0, 1000);
}

TEST_F(StoreUnreadable, VerificationNamesItAndGoesOn) {
  commit("vm", 1, {}, 0, 3, 1000);
  for (Kind kind : {Kind::page, Kind::manifest}) env.set_bad(newest(kind).path, newest(kind).offset);
  commit("other", 1, {}, 0, 3, 2000);
  env.set_bad(newest(Kind::node).path, newest(Kind::node).offset);
  store.reset();
  store = open();
  auto verified = store->verify({}, nullptr, nullptr);
  ASSERT_TRUE(verified.ok()) << verified.error().message();
  ASSERT_EQ(verified->damages.size(), 2u);  // a page is not looked for without its manifest
  EXPECT_EQ(verified->damages[0].checkpoints, (std::vector<CheckpointId>{{"vm", 1}}));
  EXPECT_EQ(verified->damages[1].checkpoints, (std::vector<CheckpointId>{{"other", 1}}));
  for (const Damage& damage : verified->damages) {
    EXPECT_NE(damage.reason.find("a bad sector"), std::string::npos) << damage.reason;
  }
}

TEST_F(StoreUnreadable, WhatCanBeReadAgainIsCountedAgain) {
  for (Kind kind : {Kind::node, Kind::manifest}) {
    SCOPED_TRACE(static_cast<int>(kind));
    std::uint64_t first = 1 + 3 * static_cast<std::uint64_t>(kind);
    commit("other", first, {}, 0, 200, 10'000 * first);
    commit("vm", first, {}, 0, 20, 1000 * first);
    Place place = newest(kind);
    store.reset();
    env.set_bad(place.path, place.offset);
    store = open();
    remove("other", {first});
    EXPECT_LT(collect_all(), 100'000u);  // all of it is older than what was not read
    ASSERT_EQ(store->stats().uncounted.size(), 1u);
    EXPECT_EQ(store->stats().uncounted[0].checkpoints, (std::vector<CheckpointId>{{"vm", first}}));
    env.set_bad(place.path, place.offset, false);
    EXPECT_GT(collect_all(), 500'000u);
    EXPECT_TRUE(store->stats().uncounted.empty());
    for (std::uint64_t at = 0; at < 20; ++at) expect_page(*store, {"vm", first}, at, 1000 * first + at);
    remove("vm", {first});
    collect_all();
    EXPECT_LT(store->stats().stored_bytes, 100'000u);  // what was counted later is given back as ever
  }
}

}  // namespace
}  // namespace ckpt
