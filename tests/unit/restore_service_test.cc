// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service level: what is counted, and what a second agent makes of the first one's figures.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "service_level.h"

namespace agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class ServiceLevelTest : public testing::Test {
protected:
  const steady_clock::time_point start_ = steady_clock::now();
  ServiceLevel level_;

  void wait(pid_t thread, milliseconds since, milliseconds until) {
    level_.wait_begins(thread, start_ + since);
    level_.wait_ends(thread, start_ + until);
  }
};

TEST_F(ServiceLevelTest, CountsTheVcpusWaitsAndNoOthers) {
  wait(10, milliseconds(-50), milliseconds(-10));  // before they run
  level_.begin({10, 11}, start_);
  wait(10, milliseconds(100), milliseconds(300));
  wait(11, milliseconds(100), milliseconds(200));  // at the same time
  wait(99, milliseconds(0), milliseconds(900));    // QEMU's main thread
  auto json = level_.to_json(start_ + seconds(1));
  EXPECT_EQ(json["vcpus"], 2);
  EXPECT_EQ(json["counted_us"], 1'000'000);
  EXPECT_EQ(json["waited_us"], 300'000);
  EXPECT_DOUBLE_EQ(json["level_percent"], 85.0);  // 0.3 s of two seconds of vCPU time
}

TEST_F(ServiceLevelTest, AWaitIsSpreadOverTheSecondsItLiesIn) {
  level_.begin({7}, start_);
  wait(7, milliseconds(500), milliseconds(2250));
  auto json = level_.to_json(start_ + milliseconds(2500));
  EXPECT_EQ(json["waited_us_by_second"], nlohmann::json({500'000, 1'000'000, 250'000}));
  EXPECT_EQ(json["level_percent_by_second"], nlohmann::json({50.0, 0.0, 50.0}));  // the last one has half a second
}

TEST_F(ServiceLevelTest, WaitsOfOneThreadNeverOverlap) {
  level_.begin({7}, start_);
  wait(7, milliseconds(0), milliseconds(300));
  wait(7, milliseconds(200), milliseconds(400));  // it can only have begun after the first
  EXPECT_EQ(level_.to_json(start_ + seconds(1))["waited_us"], 400'000);
}

TEST_F(ServiceLevelTest, AWaitThatGoesOnCountsAlready) {
  level_.begin({7}, start_);
  level_.wait_begins(7, start_ + milliseconds(1000));
  level_.wait_begins(7, start_ + milliseconds(1500));  // asks again: still the same wait
  EXPECT_DOUBLE_EQ(level_.to_json(start_ + seconds(2))["level_percent"], 50.0);
  EXPECT_DOUBLE_EQ(level_.to_json(start_ + seconds(4))["level_percent"], 25.0);
  level_.end(start_ + seconds(5));
  EXPECT_EQ(level_.to_json(start_ + seconds(50))["counted_us"], 5'000'000);
  EXPECT_DOUBLE_EQ(level_.to_json(start_ + seconds(50))["level_percent"], 20.0);
}

TEST_F(ServiceLevelTest, WithoutThreadIdsThereIsNoFigure) {
  level_.begin({7}, start_);
  wait(0, milliseconds(0), milliseconds(500));
  EXPECT_EQ(level_.to_json(start_ + seconds(1)), nlohmann::json::object());
}

TEST_F(ServiceLevelTest, ManyHoursKeepTenMinutesBySecond) {
  level_.begin({7}, start_);
  wait(7, seconds(599), seconds(7200));
  auto json = level_.to_json(start_ + seconds(7200));
  EXPECT_EQ(json["level_percent_by_second"].size(), 600u);
  EXPECT_EQ(json["waited_us"], 6601'000'000);
}

TEST_F(ServiceLevelTest, TheNextAgentGoesOnAndCountsTheGapAsWaitedForByAll) {
  level_.begin({10, 11}, start_ - seconds(10));
  level_.wait_begins(10, start_ - seconds(4));
  level_.wait_ends(10, start_ - seconds(3));
  auto before = level_.to_json(start_ - seconds(2));
  // It says when it began by the wall clock, which the test has not waited for.
  before["begun_ns"] = before["begun_ns"].get<std::uint64_t>() - 10'000'000'000;
  ServiceLevel next;
  next.resume(before, start_);
  auto json = next.to_json(start_);
  EXPECT_EQ(json["vcpu_threads"], nlohmann::json({10, 11}));
  EXPECT_NEAR(json["waited_us"].get<double>(), 5e6, 0.2e6);  // one second, and twice the two of the gap
  EXPECT_NEAR(json["level_percent"].get<double>(), 75, 1);
}

TEST_F(ServiceLevelTest, NonsenseOfAnEarlierAgentIsLeftAlone) {
  level_.begin({7}, start_);
  const auto good = level_.to_json(start_ + seconds(1));
  for (const char* text :
       {"null", "[]", "{}", R"({"vcpu_threads": 3})", R"({"vcpu_threads": [], "waited_us_by_second": []})"}) {
    ServiceLevel next;
    next.resume(nlohmann::json::parse(text), start_);
    EXPECT_EQ(next.to_json(start_), nlohmann::json::object()) << text;
  }
  for (auto [key, value] : std::vector<std::pair<const char*, nlohmann::json>>{
           {"begun_ns", 0}, {"begun_ns", 1}, {"counted_us", UINT64_MAX}, {"begun_ns", UINT64_MAX}}) {
    auto changed = good;
    changed[key] = value;
    ServiceLevel next;
    next.resume(changed, start_);
    EXPECT_EQ(next.to_json(start_), nlohmann::json::object()) << key;
  }
}

TEST(ThreadsFrom, TakesNumbersAndNothingElse) {
  EXPECT_EQ(*threads_from("12"), std::vector<pid_t>{12});
  EXPECT_EQ(*threads_from("12,13"), (std::vector<pid_t>{12, 13}));
  for (const char* bad : {"", ",", "0", "-1", "12,,13", "12 13", "12x", "99999999999"})
    EXPECT_FALSE(threads_from(bad).ok()) << bad;
}

}  // namespace
}  // namespace agent
