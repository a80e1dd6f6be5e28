// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Damage that verification finds, and whose next checkpoints would rest on it, whatever goes on meanwhile.
#include "unit/store_fixture.h"

namespace ckpt {
namespace {

using Names = std::vector<std::string>;

class StoreUndermined : public StoreFixture {
protected:
  void SetUp() override {
    StoreFixture::SetUp();
    // What page 0 to 3 of checkpoint 1 say, one frame.
    commit("vm", 1, {}, 0, 4, 1000);
    damaged_ = newest(Kind::page);
    commit("other", 1, {}, 0, 4, 9000);
  }
  void damage() { ASSERT_TRUE(env.flip_bit(damaged_.path, damaged_.offset * 8)); }
  std::vector<Damage> verify(std::vector<CheckpointId> ids, std::function<bool()> meanwhile = nullptr) {
    auto progress = [](void* context, const VerifyProgress&) {
      auto& todo = *static_cast<std::function<bool()>*>(context);
      return !todo || todo();
    };
    auto verified = store->verify(ids, progress, &meanwhile);
    EXPECT_TRUE(verified.ok()) << verified.error().message();
    if (!verified) return {};
    cancelled_ = verified->cancelled;
    return verified->damages;
  }

  Place damaged_;
  bool cancelled_ = false;
};

TEST_F(StoreUndermined, ByDamageOfACheckpointThatIsRemovedMeanwhile) {
  damage();
  commit("vm", 2, {"vm", 1}, 0, 1, 2000);
  bool removed = false;
  auto damages = verify({{"other", 1}, {"vm", 2}}, [&] {
    // Between the two: what is verified stays readable.
    if (!removed) commit("vm", 3, {"vm", 2}, 1, 1, 3000);
    if (!removed) remove("vm", {1, 2});
    return removed = true;
  });
  ASSERT_TRUE(removed);
  ASSERT_FALSE(damages.empty());
  EXPECT_TRUE(damages[0].checkpoints.empty());
  EXPECT_EQ(store->undermined(damages), Names{"vm"});
}

TEST_F(StoreUndermined, NotByDamageThatIsReachedNoMore) {
  damage();
  commit("vm", 2, {"vm", 1}, 0, 1, 2000);
  auto damages = verify({{"vm", 1}});
  ASSERT_FALSE(damages.empty());
  EXPECT_EQ(store->undermined(damages), Names{"vm"}) << "of the four pages three are in the newest, too";
  commit("vm", 3, {"vm", 2}, 0, 4, 3000);
  EXPECT_EQ(store->undermined(damages), Names{});
  EXPECT_EQ(store->undermined({}), Names{});
}

TEST_F(StoreUndermined, ByDamageThatWasFoundBeforeSomebodyCancelled) {
  damage();
  auto damages = verify({{"vm", 1}, {"other", 1}}, [] { return false; });
  EXPECT_TRUE(cancelled_);
  ASSERT_FALSE(damages.empty());
  EXPECT_EQ(store->undermined(damages), Names{"vm"});
}

TEST_F(StoreUndermined, ByADuplicateThatAnEpochUnderWayHasTaken) {
  commit("vm", 2, {}, 0, 4, 2000);
  auto copy = [&](std::uint64_t number) {
    auto epoch = store->begin_epoch("vm", number, {}, objects()).take();
    EXPECT_TRUE(epoch->write(0, 0, page(1000)).ok());
    return epoch;
  };
  auto before = copy(3);
  damage();
  auto damages = verify({{"vm", 1}});
  ASSERT_FALSE(damages.empty());
  EXPECT_EQ(store->undermined(damages), Names{"vm"});
  before.reset();
  EXPECT_EQ(store->undermined(damages), Names{}) << "the epoch was given up";
  auto afterwards = copy(4);
  EXPECT_EQ(store->undermined(damages), Names{}) << "nothing new rests on damage";
}

TEST_F(StoreUndermined, NotWhileACopyAnewIsUnderWay) {
  damage();
  auto damages = verify({});
  EXPECT_EQ(store->undermined(damages), Names{"vm"});
  auto copy = store->begin_epoch("vm", 2, {}, objects()).take();
  auto next = store->begin_epoch("vm", 3, {.closed = copy.get()}, objects()).take();
  EXPECT_EQ(store->undermined(damages), Names{});
  ASSERT_TRUE(copy->commit({}).ok());
  EXPECT_EQ(store->undermined(damages), Names{});
  // As a machine that goes on does.
  auto again = store->begin_epoch("other", 2, {.parent = {"vm", 1}}, objects());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(store->undermined(damages), Names{"other"}) << "it builds upon another machine's checkpoint";
}

TEST_F(StoreUndermined, ByANodeThatSpaceCannotBeCountedFor) {
  Place node = newest(Kind::node);
  store.reset();
  ASSERT_TRUE(env.flip_bit(node.path, node.offset * 8));
  store = open();
  ASSERT_TRUE(store->collect().ok());
  auto damages = store->stats().uncounted;
  ASSERT_FALSE(damages.empty());
  EXPECT_EQ(store->undermined(damages), Names{"other"});
}

}  // namespace
}  // namespace ckpt
