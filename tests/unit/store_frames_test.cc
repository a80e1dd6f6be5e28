// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Several frames by one request: as if each had been read alone, whatever is wrong with one of them.
#include <set>

#include "unit/store_fixture.h"

namespace ckpt {
namespace {

constexpr std::size_t much = 256 << 10;
constexpr std::uint64_t first_content = 1000;

class StoreFrames : public StoreFixture {
protected:
  // Checkpoint 1, opened by a reader, as an agent opens it. A frame has four pages, a segment four frames.
  void commit_pages(int count) {
    commit("vm", 1, {}, 0, count, first_content);
    store.reset();
    store = open(true);
    reader_ = store->open_checkpoint({"vm", 1}).take();
    frames_ = reader_->frames(1);
    wanted_ = reader_->places(0, 0, static_cast<std::uint64_t>(count)).take();
  }
  // Reads all that is wanted; returns what was said of those that could not be.
  std::map<std::uint64_t, Error> read_all(std::size_t request_bytes) {
    std::map<std::uint64_t, Error> failed;
    for (std::size_t at = 0; at < wanted_.size();) {
      auto pages = frames_->read(std::span(wanted_).subspan(at), request_bytes);
      if (!pages) {
        failed.emplace(wanted_[at++].page, pages.error());
        continue;
      }
      for (const std::uint8_t* bytes : *pages) {
        auto content = page(first_content + wanted_[at].page);
        EXPECT_TRUE(std::equal(content.begin(), content.end(), bytes)) << wanted_[at].page;
        ++at;
      }
    }
    return failed;
  }
  std::size_t segments() {
    std::set<std::string> paths;
    for (const Place& place : places(Kind::page)) paths.insert(place.path);
    return paths.size();
  }

  std::unique_ptr<CheckpointReader> reader_;
  std::unique_ptr<FrameReader> frames_;
  std::vector<PagePlace> wanted_;
};

TEST_F(StoreFrames, ThoseThatLieNearComeByOneRequest) {
  commit_pages(60);
  EXPECT_TRUE(read_all(0).empty());
  const StoreRequests alone = frames_->requests();
  EXPECT_EQ(alone.count, places(Kind::page).size());
  frames_ = reader_->frames(1);
  EXPECT_TRUE(read_all(much).empty());
  EXPECT_EQ(frames_->requests().count, segments());
  EXPECT_EQ(frames_->requests().bytes, alone.bytes);
}

TEST_F(StoreFrames, ARequestIsNoLargerThanWasAsked) {
  commit_pages(60);
  EXPECT_TRUE(read_all(40'000).empty());
  const StoreRequests made = frames_->requests();
  EXPECT_LE(made.bytes, made.count * 40'000);
  EXPECT_LT(made.count, places(Kind::page).size());
}

TEST_F(StoreFrames, WhatLiesFarBehindIsARequestOfItsOwn) {
  commit_pages(16);
  wanted_ = {wanted_[0], wanted_[12]};
  EXPECT_TRUE(read_all(much).empty());
  EXPECT_EQ(frames_->requests().count, 2u);
  EXPECT_LT(frames_->requests().bytes, 40'000u);
}

TEST_F(StoreFrames, WhatCameBesideIsThereWithoutAnotherRequest) {
  commit_pages(12);
  ASSERT_TRUE(frames_->read(wanted_, much));
  for (std::size_t at : {11, 4}) {
    EXPECT_TRUE(frames_->has(wanted_[at].place));
    EXPECT_TRUE(frames_->read(std::span(wanted_).subspan(at, 1), 0));
  }
  EXPECT_EQ(frames_->requests().count, 1u);
  // Also when the place is asked for in another order than that of the store.
  std::reverse(wanted_.begin(), wanted_.end());
  EXPECT_TRUE(read_all(much).empty());
}

TEST_F(StoreFrames, WhatIsBadCostsItsOwnFrameAndIsNamed) {
  commit_pages(32);
  auto at = places(Kind::page);
  ASSERT_EQ(at.size(), 8u);
  ASSERT_TRUE(env.flip_bit(at[1].path, at[1].offset * 8));
  env.set_bad(at[6].path, at[6].offset);
  auto alone = read_all(0);
  ASSERT_EQ(alone.size(), 8u);
  frames_ = reader_->frames(1);
  auto failed = read_all(much);
  ASSERT_EQ(failed.size(), alone.size());
  for (const auto& [page, error] : alone) {
    ASSERT_TRUE(failed.contains(page)) << page;
    EXPECT_EQ(failed.at(page).message(), error.message());
  }
  EXPECT_EQ(failed.at(4).code, Code::corrupt);
  EXPECT_EQ(failed.at(24).code, Code::io);
}

TEST_F(StoreFrames, WhatWasMendedSinceItCameBesideIsReadAnew) {
  commit_pages(12);
  auto at = places(Kind::page);
  ASSERT_TRUE(env.flip_bit(at[1].path, at[1].offset * 8));
  ASSERT_TRUE(frames_->read(wanted_, much));
  ASSERT_TRUE(env.flip_bit(at[1].path, at[1].offset * 8));
  EXPECT_TRUE(frames_->read(std::span(wanted_).subspan(4), much)) << "what was read before is still taken for it";
}

}  // namespace
}  // namespace ckpt
