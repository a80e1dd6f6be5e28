// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A disk that fails to read what is there: it costs what is in that place, and nothing else.
#include "unit/store_fixture.h"

namespace ckpt {
namespace {

class StoreUnreadable : public StoreFixture {
 protected:
  // One more epoch upon the newest checkpoint, which changes a part of page 0.
  Status continue_from(std::uint64_t number) {
    CKPT_ASSIGN(auto epoch, store->begin_epoch("vm", number + 1, {.parent = {"vm", number}}, objects()));
    CKPT_TRY(epoch->write(0, 100, std::vector<std::uint8_t>(200, 7)));
    CKPT_ASSIGN([[maybe_unused]] auto made, epoch->commit({}));
    return {};
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

}  // namespace
}  // namespace ckpt
