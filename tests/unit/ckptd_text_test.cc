// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How people write points, times, policies and sizes to ckptctl, and what retention makes of a policy.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <numeric>
#include <set>

#include "common/clock_steps.h"
#include "common/json.h"
#include "common/point.h"
#include "common/policy.h"
#include "common/restore_state.h"
#include "common/text.h"

namespace ckptd {
namespace {

using ckpt::CheckpointInfo;
using ckpt::Code;

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t start_s = 1'700'000'000;

CheckpointInfo made(std::uint64_t number, std::uint64_t time_s, const std::string& name = "") {
  CheckpointInfo info;
  info.id = {"vm", number};
  info.wall_clock_ns = time_s * second_ns;
  info.name = name;
  return info;
}

std::uint64_t number_at(const std::string& point, const std::vector<CheckpointInfo>& kept) {
  auto found = resolve_point("vm", point, kept);
  return found.ok() ? found->id.number : 0;
}

TEST(Point, IsFoundByEachOfItsForms) {
  std::vector<CheckpointInfo> kept;
  for (std::uint64_t i = 1; i <= 60; ++i) kept.push_back(made(i, start_s + i, i == 7 ? "before-update" : ""));
  EXPECT_EQ(number_at("", kept), 60u);
  EXPECT_EQ(number_at("latest", kept), 60u);
  EXPECT_EQ(number_at("12", kept), 12u);
  EXPECT_EQ(number_at("before-update", kept), 7u);
  EXPECT_EQ(number_at("-30s", kept), 30u);
  EXPECT_EQ(number_at("-1500ms", kept), 58u);
  EXPECT_EQ(number_at(std::to_string(start_s + 20), kept), 20u);
  EXPECT_EQ(number_at("2023-11-14T22:13:50Z", kept), 30u);
  EXPECT_EQ(number_at("2023-11-14 22:13:50.9Z", kept), 30u);
}

TEST(Point, ThatIsNotThereSaysWhatIs) {
  std::vector<CheckpointInfo> kept = {made(5, start_s), made(9, start_s + 4)};
  for (const char* point : {"6", "1000000000", "-5m", "nonesuch", "2001-01-01T00:00:00Z", "99999999999999999999"}) {
    auto found = resolve_point("vm", point, kept);
    ASSERT_FALSE(found.ok()) << point;
    EXPECT_EQ(found.error().code, Code::not_found) << point;
  }
  EXPECT_EQ(resolve_point("vm", "-5x", kept).error().code, Code::invalid);
  EXPECT_EQ(resolve_point("vm", "latest", {}).error().code, Code::not_found);
}

TEST(Point, NamesCannotBeTakenForOtherForms) {
  EXPECT_TRUE(check_point_name("before-update").ok());
  for (const char* name : {"", "latest", "17", "-5m", "a b", "a@b", "a/b", "2023-11-14T22:13:50"})
    EXPECT_FALSE(check_point_name(name).ok()) << name;
}

TEST(Text, DurationsAndSizes) {
  EXPECT_EQ(*parse_duration_ms("50ms"), 50u);
  EXPECT_EQ(*parse_duration_ms("2.5s"), 2500u);
  EXPECT_EQ(*parse_duration_ms("1h"), 3'600'000u);
  for (const char* bad : {"", "s", "-1s", "1 s", "1x", "nan", "1e3", "99999999999999999d"})
    EXPECT_FALSE(parse_duration_ms(bad).ok()) << bad;
  EXPECT_EQ(*parse_size("1.5K"), 1536u);
  EXPECT_EQ(*parse_size("10M"), 10u << 20);
  EXPECT_FALSE(parse_size("M").ok());
  EXPECT_EQ(format_size(1536), "1.5 KiB");
  EXPECT_EQ(format_duration_ms(3'723'000), "1 h 2 m");
}

TEST(Policy, RoundTripsAndChecksItsBounds) {
  Policy policy;
  auto again = policy_from_json(policy_to_json(policy), Policy{1, {}});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(format_retention(*again), "all:1m,10s:10m,1m:1d,1h:7d,1d:90d");
  EXPECT_EQ(policy_to_json(*policy_from_json({{"retention", *parse_retention(format_retention(policy))}}, policy)),
            policy_to_json(policy));
  for (const Json& bad :
       {Json{{"interval_ms", 49}}, Json{{"interval_ms", -1}}, Json{{"interval_ms", "1s"}}, Json{{"retention", 5}},
        Json{{"retention", Json::array()}}, Json{{"retention", Json::array({{{"every_s", 1}, {"for_s", 0}}})}}})
    EXPECT_FALSE(policy_from_json(bad, policy).ok()) << bad;
  EXPECT_FALSE(parse_retention("60s").ok());
  EXPECT_EQ(policy_from_json({{"consistent_ms", 600'000}}, policy)->consistent_ms, 600'000u);
  for (std::uint64_t bad_ms : {9'999u, 604'800'001u})
    EXPECT_FALSE(policy_from_json({{"consistent_ms", bad_ms}}, policy).ok());
  EXPECT_EQ(*parse_consistent_ms("none"), 0u);
  EXPECT_EQ(*parse_consistent_ms("10m"), 600'000u);
  for (const char* bad : {"", "0", "soon"}) EXPECT_FALSE(parse_consistent_ms(bad).ok()) << bad;
}

// One checkpoint a second for two days, thinned every five seconds as ckptd does: what stays is what the rules promise,
// whenever one looks.
TEST(Retention, ThinsAsTimeGoesByAndKeepsWhatItPromised) {
  Policy policy;
  policy.retention = {{0, 60}, {10, 600}, {60, 86'400}};
  std::vector<CheckpointInfo> kept;
  for (std::uint64_t i = 1; i <= 2 * 86'400; ++i) {
    kept.push_back(made(i, start_s + i, i == 100 ? "named" : ""));
    if (i == 200) kept.back().pins = {"admin"};
    if (i % 5 != 0) continue;
    auto gone = expired(policy, kept);
    std::set<std::uint64_t> numbers(gone.begin(), gone.end());
    std::erase_if(kept, [&](const CheckpointInfo& info) { return numbers.contains(info.id.number); });
    ASSERT_LE(kept.size(), 61u + 56u + 1442u + 2u + 5u);
  }
  std::uint64_t now_s = start_s + 2 * 86'400;
  EXPECT_EQ(kept[0].name, "named");
  EXPECT_EQ(kept[1].pins.size(), 1u);
  for (std::size_t i = 3; i < kept.size(); ++i) {
    std::uint64_t age_s = now_s - kept[i].wall_clock_ns / second_ns;
    std::uint64_t gap_s = (kept[i].wall_clock_ns - kept[i - 1].wall_clock_ns) / second_ns;
    EXPECT_LE(gap_s, age_s < 60 ? 1u : age_s < 590 ? 10u : 60u) << "at age " << age_s;
  }
}

TEST(Retention, PrefersApplicationConsistentOnes) {
  Policy policy;
  policy.retention = {{0, 60}, {10, 600}, {60, 86'400}};
  std::vector<CheckpointInfo> kept;
  for (std::uint64_t i = 1; i <= 7'200; ++i) {
    kept.push_back(made(i, start_s + i));
    // Each in another place of its minute, none in every fifth.
    kept.back().application_consistent = i % 67 == 33 && i / 60 % 5 != 0;
    if (i % 5 != 0) continue;
    auto gone = expired(policy, kept);
    std::set<std::uint64_t> numbers(gone.begin(), gone.end());
    std::erase_if(kept, [&](const CheckpointInfo& info) { return numbers.contains(info.id.number); });
  }
  std::map<std::uint64_t, bool> minutes;
  for (const auto& info : kept) minutes[info.wall_clock_ns / second_ns / 60] |= info.application_consistent;
  EXPECT_GE(minutes.size(), 120u) << "a minute without one has one all the same";
  for (std::uint64_t i = 1; i <= 7'200; ++i) {
    if (i % 67 == 33 && i / 60 % 5 != 0) {
      EXPECT_TRUE(minutes[(start_s + i) / 60]) << i;
    }
  }
  EXPECT_LT(kept.size(), 61u + 56u + 112u + 5u);
}

TEST(Retention, NeverTakesTheNewest) {
  Policy policy;
  policy.retention = {{0, 1}};
  EXPECT_EQ(expired(policy, {made(1, start_s), made(2, start_s + 2)}), std::vector<std::uint64_t>{1});
  EXPECT_TRUE(expired(policy, {made(1, start_s)}).empty());
  EXPECT_TRUE(expired(policy, {}).empty());
}

// An hour of one a second, then a host whose clock is 90 days ahead, and right again after three minutes.
TEST(Retention, BelievesNoClockThatHasJustGoneAhead) {
  Policy policy;
  policy.retention = {{0, 7200}};
  std::vector<CheckpointInfo> kept;
  for (std::uint64_t i = 1; i <= 3600; ++i) kept.push_back(made(i, start_s + i));
  constexpr std::uint64_t ahead_s = 90 * 86'400;
  for (std::uint64_t i = 3601; i <= 3780; ++i) {
    kept.push_back(made(i, start_s + ahead_s + i));
    ASSERT_TRUE(expired(policy, kept).empty()) << "at " << i;
  }
  for (std::uint64_t i = 3781; i <= 7200; ++i) kept.push_back(made(i, start_s + i));
  EXPECT_TRUE(expired(policy, kept).empty());
  // And it goes on from there.
  kept.push_back(made(7201, start_s + 7201 + 10));
  EXPECT_EQ(expired(policy, kept).size(), 10u);
}

TEST(Retention, GoesOnAfterAMachineThatWasOff) {
  Policy policy;
  policy.retention = {{0, 60}};
  std::vector<CheckpointInfo> kept = {made(1, start_s), made(2, start_s + 1)};
  for (std::uint64_t i = 0; i < 600; ++i) {
    kept.push_back(made(3 + i, start_s + 100'000 + i));
    ASSERT_TRUE(expired(policy, kept).empty()) << i << " s after it was on again";
  }
  kept.push_back(made(603, start_s + 100'600));
  EXPECT_EQ(expired(policy, kept).front(), 1u);
}

TEST(Retention, RemovesAnyNumberInSlices) {
  std::vector<std::uint64_t> numbers(100'000), removed;
  std::iota(numbers.begin(), numbers.end(), 1);
  auto remove = [&](std::span<const std::uint64_t> slice) {
    EXPECT_LE(slice.size(), 8192u);
    if (removed.size() > 90'000) return ckpt::Status(ckpt::make_error(Code::busy, "pinned"));
    removed.insert(removed.end(), slice.begin(), slice.end());
    return ckpt::Status();
  };
  auto status = remove_in_slices(remove, numbers);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(removed.size(), 11u * 8192);
  EXPECT_TRUE(remove_in_slices(remove, {}).ok());
  removed.clear();
  numbers.resize(90'000);
  ASSERT_TRUE(remove_in_slices(remove, numbers).ok());
  EXPECT_EQ(removed, numbers);
}

TEST(Clock, IsNotBelievedForAWhileAfterItWasSet) {
  ClockSteps clock;
  std::int64_t boot_ms = 1000, offset_ms = 1'700'000'000'000;
  auto look = [&] { return clock.steady(boot_ms + offset_ms, boot_ms); };
  for (int i = 0; i < 100; ++i, boot_ms += 5000, offset_ms += 3) EXPECT_TRUE(look());
  for (std::int64_t step_ms : {-86'400'000, 86'400'000}) {
    offset_ms += step_ms;
    EXPECT_FALSE(look());
    EXPECT_LE(std::abs(clock.last_step_ms() - step_ms), 10);
    boot_ms += ClockSteps::settle_ms - 1;
    EXPECT_FALSE(look());
    boot_ms += 1;
    EXPECT_TRUE(look());
  }
}

TEST(Version, IsAllItsNumbers) {
  EXPECT_EQ(version_numbers("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)"), "10.0.13");
  EXPECT_EQ(version_numbers("10.0.1"), "10.0.1");
  EXPECT_EQ(version_numbers("QEMU"), "");
}

TEST(Json, FromOutsideIsBounded) {
  EXPECT_TRUE(parse_object(R"({"a": "[[[["})").ok());
  EXPECT_EQ(parse_object("[]").error().code, Code::invalid);
  EXPECT_EQ(parse_object("{").error().code, Code::invalid);
  EXPECT_EQ(parse_object("{\"a\":" + std::string(100'000, '[')).error().code, Code::invalid);
  EXPECT_EQ(parse_object(std::string(json_line_limit_bytes + 1, ' ')).error().code, Code::limit);
  EXPECT_FALSE(required_string(Json{{"a", 1}}, "a").ok());
  EXPECT_FALSE(number_field(Json{{"a", -1}}, "a").ok());
}

TEST(RestoreState, RoundTripsAndRefusesWhatIsNotOne) {
  RestoreState state;
  state.name = "vm";
  state.source = "vm@5";
  state.mode = "lazy";
  state.phase = "running";
  state.holder = "restore:vm";
  state.agent = {42, 4711};
  state.disks.resize(1);
  state.disks[0].name = "disk0";
  state.disks[0].overlay = "/d/vm.qcow2";
  state.disks[0].streaming = true;
  auto again = restore_from_json(to_json(state));
  ASSERT_TRUE(again.ok()) << again.error().context;
  EXPECT_EQ(to_json(*again), to_json(state));
  for (const char* field : {"name", "source", "mode", "phase", "holder", "version"}) {
    Json broken = to_json(state);
    broken.erase(field);
    EXPECT_FALSE(restore_from_json(broken).ok()) << field;
    broken[field] = Json::array();
    EXPECT_FALSE(restore_from_json(broken).ok()) << field;
  }
  Json hostile = to_json(state);
  hostile["name"] = "../../etc";
  EXPECT_FALSE(restore_from_json(hostile).ok());
  hostile = to_json(state);
  hostile["agent"] = {{"pid", 1}, {"start_time", 0}};
  EXPECT_FALSE(restore_from_json(hostile)->agent.known());
}

}  // namespace
}  // namespace ckptd
