// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/policy.h"

#include <algorithm>
#include <map>

#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::uint64_t interval_minimum_ms = 50;
constexpr std::uint64_t interval_maximum_ms = 3'600'000;
constexpr std::uint64_t consistent_minimum_ms = 10'000, consistent_maximum_ms = 7 * 86'400'000ull;
constexpr std::uint64_t for_ever_s = 100ull * 365 * 86'400;
constexpr std::size_t rule_limit = 16;
constexpr std::size_t removed_at_once = 8192;
constexpr std::uint64_t second_ns = 1'000'000'000;
// A machine that was off for so long, or a host's clock that is wrong.
constexpr std::uint64_t gap_ns = 3600 * second_ns;
constexpr std::uint64_t settle_ns = 600 * second_ns;

std::string brief(std::uint64_t seconds) {
  if (seconds % 86'400 == 0) return std::to_string(seconds / 86'400) + "d";
  if (seconds % 3600 == 0) return std::to_string(seconds / 3600) + "h";
  if (seconds % 60 == 0) return std::to_string(seconds / 60) + "m";
  return std::to_string(seconds) + "s";
}

// What ages are counted from: the newest checkpoint, so that a machine's history ends only by its own going on. Its
// time is believed when it follows the others without a gap, or has done so for a while after one.
std::uint64_t present_ns(const std::vector<ckpt::CheckpointInfo>& checkpoints) {
  std::uint64_t newest_ns = checkpoints.back().wall_clock_ns;
  for (std::size_t i = checkpoints.size() - 1; i > 0; --i) {
    std::uint64_t now_ns = checkpoints[i].wall_clock_ns, before_ns = checkpoints[i - 1].wall_clock_ns;
    if (now_ns < before_ns && before_ns - now_ns > gap_ns) break;  // set back: nothing gets older by that
    if (now_ns <= before_ns || now_ns - before_ns <= gap_ns) continue;
    return newest_ns < now_ns + settle_ns ? before_ns : newest_ns;
  }
  return newest_ns;
}

}  // namespace

ckpt::Result<Policy> policy_from_json(const Json& json, const Policy& base) {
  Policy policy = base;
  CKPT_ASSIGN(auto interval_ms, number_field(json, "interval_ms", base.interval_ms));
  if (interval_ms < interval_minimum_ms || interval_ms > interval_maximum_ms)
    return make_error(Code::invalid, "an interval of " + std::to_string(interval_ms) + " ms: choose 50 ms to 1 h");
  policy.interval_ms = static_cast<std::uint32_t>(interval_ms);
  CKPT_ASSIGN(policy.consistent_ms, number_field(json, "consistent_ms", base.consistent_ms));
  if (policy.consistent_ms != 0 &&
      (policy.consistent_ms < consistent_minimum_ms || policy.consistent_ms > consistent_maximum_ms))
    return make_error(Code::invalid, std::to_string(policy.consistent_ms) +
                                         " ms between application-consistent points: choose 10 s to 7 d, or none");
  auto rules = json.find("retention");
  if (rules == json.end() || rules->is_null()) return policy;
  if (!rules->is_array() || rules->empty() || rules->size() > rule_limit)
    return make_error(Code::invalid, "field 'retention' is not an array of 1 to 16 rules");
  policy.retention.clear();
  for (const Json& item : *rules) {
    RetentionRule rule;
    CKPT_ASSIGN(rule.every_s, number_field(item, "every_s"));
    CKPT_ASSIGN(rule.for_s, number_field(item, "for_s"));
    if (rule.for_s > for_ever_s || rule.every_s > for_ever_s)
      return make_error(Code::invalid, "a retention rule passes 100 years");
    if (rule.for_s == 0 || (!policy.retention.empty() && rule.for_s <= policy.retention.back().for_s))
      return make_error(Code::invalid, "retention rules must reach further back one after the other");
    policy.retention.push_back(rule);
  }
  return policy;
}

Json policy_to_json(const Policy& policy) {
  Json rules = Json::array();
  for (const auto& rule : policy.retention) rules.push_back({{"every_s", rule.every_s}, {"for_s", rule.for_s}});
  return {{"interval_ms", policy.interval_ms}, {"consistent_ms", policy.consistent_ms}, {"retention", rules}};
}

ckpt::Result<Json> parse_retention(const std::string& text) {
  Json rules = Json::array();
  if (text == "all") {
    rules.push_back({{"every_s", 0}, {"for_s", for_ever_s}});
    return rules;
  }
  for (const auto& part : split(text, ',')) {
    auto colon = part.find(':');
    if (colon == std::string::npos)
      return make_error(Code::invalid,
                        "'" + part + "' is not a retention rule: write EVERY:FOR, as in all:60s,10s:10m,1m:1d");
    std::uint64_t every_ms = 0;
    if (part.substr(0, colon) != "all") {
      CKPT_ASSIGN(every_ms, parse_duration_ms(part.substr(0, colon)));
    }
    CKPT_ASSIGN(auto for_ms, parse_duration_ms(part.substr(colon + 1)));
    if (every_ms % 1000 != 0 || for_ms % 1000 != 0)
      return make_error(Code::invalid,
                        "retention rule '" + part + "' has a part of a second: rules count whole seconds");
    rules.push_back({{"every_s", every_ms / 1000}, {"for_s", for_ms / 1000}});
  }
  return rules;
}

ckpt::Result<std::uint64_t> parse_consistent_ms(const std::string& text) {
  if (text == "none") return std::uint64_t{0};
  CKPT_ASSIGN(std::uint64_t ms, parse_duration_ms(text));
  if (ms == 0) return make_error(Code::invalid, "'" + text + "' between application-consistent points: write none");
  return ms;
}

std::string format_retention(const Policy& policy) {
  if (policy.retention.size() == 1 && policy.retention[0].every_s == 0 && policy.retention[0].for_s == for_ever_s)
    return "all";
  std::vector<std::string> parts;
  for (const auto& rule : policy.retention)
    parts.push_back((rule.every_s ? brief(rule.every_s) : "all") + ":" + brief(rule.for_s));
  return join(parts, ",");
}

std::vector<std::uint64_t> expired(const Policy& policy, const std::vector<ckpt::CheckpointInfo>& checkpoints) {
  std::vector<std::uint64_t> numbers;
  if (checkpoints.empty()) return numbers;
  std::uint64_t now_ns = present_ns(checkpoints);
  auto rule_of = [&](const ckpt::CheckpointInfo& info) {
    std::uint64_t age_s = info.wall_clock_ns >= now_ns ? 0 : (now_ns - info.wall_clock_ns) / second_ns;
    return std::find_if(policy.retention.begin(), policy.retention.end(),
                        [&](const RetentionRule& candidate) { return age_s <= candidate.for_s; });
  };
  // Of each bucket the oldest application-consistent one stays, else the oldest. Buckets nest when intervals divide
  // each other: what one rule has kept for its bucket, the next finds there.
  std::map<std::pair<const RetentionRule*, std::uint64_t>, const ckpt::CheckpointInfo*> chosen;
  for (const auto& info : checkpoints) {
    auto rule = rule_of(info);
    if (rule == policy.retention.end() || rule->every_s == 0) continue;
    auto& stays = chosen[{&*rule, info.wall_clock_ns / second_ns / rule->every_s}];
    if (!stays || (info.application_consistent && !stays->application_consistent)) stays = &info;
  }
  for (const auto& info : checkpoints) {
    auto rule = rule_of(info);
    const bool stays =
        rule != policy.retention.end() &&
        (rule->every_s == 0 || chosen.at({&*rule, info.wall_clock_ns / second_ns / rule->every_s}) == &info);
    const bool newest = &info == &checkpoints.back();
    if (!stays && !newest && info.name.empty() && info.pins.empty()) numbers.push_back(info.id.number);
  }
  return numbers;
}

ckpt::Status remove_in_slices(const std::function<ckpt::Status(std::span<const std::uint64_t>)>& remove,
                              std::span<const std::uint64_t> numbers) {
  while (!numbers.empty()) {
    auto slice = numbers.first(std::min(numbers.size(), removed_at_once));
    CKPT_TRY(remove(slice));
    numbers = numbers.subspan(slice.size());
  }
  return {};
}

}  // namespace ckptd
