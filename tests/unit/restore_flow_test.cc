// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How much the agent asks of its store at once, with stores that are only reckoned.
#include <gtest/gtest.h>

#include <algorithm>

#include "flow.h"

namespace agent {
namespace {

constexpr double frame_bytes = 7000;

// A link that carries one request after another, and a round trip for each.
struct Link {
  double bytes_s;
  double round_trip_s;

  // Until one of so many that are always on their way is there.
  double seconds(double bytes, unsigned threads) const {
    return std::max(round_trip_s + bytes / bytes_s, threads * bytes / bytes_s);
  }
  double speed(double bytes, unsigned threads) const { return threads * bytes / seconds(bytes, threads); }
};

double request_of(const Flow::Step& step) {
  return std::max<double>(static_cast<double>(step.request_bytes), frame_bytes);
}

// Of threads that do nothing else, after one another.
class Reader {
public:
  void read(Flow& flow, const Link& link, int requests) {
    for (int i = 0; i < requests; ++i) {
      const Flow::Step step = flow.far() ? flow.step() : Flow::Step{0, 2};
      const double bytes = request_of(step), seconds = link.seconds(bytes, step.threads);
      now_ += std::chrono::nanoseconds(static_cast<std::int64_t>(seconds / step.threads * 1e9));
      flow.note({1, static_cast<std::uint64_t>(bytes), static_cast<std::uint64_t>(seconds * 1e9)}, now_);
    }
  }

private:
  Flow::Instant now_;
};

TEST(Flow, AFarStoreIsAskedForWhatItsLinkCarriesAndLittleMore) {
  for (Link link :
       {Link{12.5e6, 2e-3}, Link{125e6, 2e-3}, Link{1.25e6, 20e-3}, Link{50e6, 20e-3}, Link{125e6, 0.3e-3}}) {
    SCOPED_TRACE(link.bytes_s);
    Flow flow;
    Reader().read(flow, link, 5000);
    ASSERT_TRUE(flow.far());
    const Flow::Step step = flow.step();
    EXPECT_GT(link.speed(request_of(step), step.threads), 0.9 * link.bytes_s);
    const double on_the_way = request_of(step) * step.threads;
    EXPECT_LT(on_the_way, 4 * link.bytes_s * link.round_trip_s + 4 * frame_bytes)
        << "who waits for a page waits for that";
  }
}

TEST(Flow, ALinkThatBecomesFasterOrSlowerIsFollowed) {
  Flow flow;
  Reader reader;
  const Link fast{125e6, 2e-3}, slow{2.5e6, 2e-3};
  for (const Link& link : {fast, slow, fast}) {
    reader.read(flow, link, 20000);
    const Flow::Step step = flow.step();
    EXPECT_GT(link.speed(request_of(step), step.threads), 0.9 * link.bytes_s);
    if (link.bytes_s < fast.bytes_s) {
      EXPECT_LT(request_of(step) * step.threads, 64e3);
    }
  }
}

TEST(Flow, ANearStoreIsNotTakenForAFarOneByABusyHost) {
  Flow flow;
  for (int i = 0; i < 5000; ++i) {
    flow.note({1, 7000, i % 3 == 0 ? 5'000'000u : 4'000u}, {});
    flow.note_fault_in({1, 7000, i % 2 == 0 ? 2'000'000u : 4'000u});
    ASSERT_FALSE(flow.far()) << i;
  }
}

TEST(Flow, FaultsTellThatAStoreIsFarAndThatItIsNearAgain) {
  Flow flow;
  for (int i = 0; i < 40; ++i) flow.note_fault_in({1, 7000, 2'000'000});
  EXPECT_TRUE(flow.far());
  for (int i = 0; i < 40; ++i) flow.note_fault_in({1, 7000, 4'000});
  EXPECT_FALSE(flow.far());
}

}  // namespace
}  // namespace agent
