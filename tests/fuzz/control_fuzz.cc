// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whatever a line on the control socket holds, it is refused or understood; what is understood keeps its limits.
#include <cstdio>
#include <cstdlib>

#include "common/guest_agent.h"
#include "common/json.h"
#include "common/point.h"
#include "common/policy.h"
#include "common/text.h"

namespace {

using namespace ckptd;

void require(bool condition) {
  if (!condition) std::abort();
}

std::vector<ckpt::CheckpointInfo> some_checkpoints() {
  std::vector<ckpt::CheckpointInfo> all(3);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].id = {"vm", i + 1};
    all[i].wall_clock_ns = 1'700'000'000'000'000'000 + i * 60'000'000'000;
  }
  all[1].name = "before-update";
  return all;
}

void check_policy(const Json& json) {
  auto policy = policy_from_json(json, Policy{});
  if (!policy.ok()) return;
  require(policy->interval_ms >= 50 && policy->interval_ms <= 3'600'000);
  require(policy->consistent_ms == 0 || (policy->consistent_ms >= 10'000 && policy->consistent_ms <= 604'800'000));
  require(!policy->retention.empty() && policy->retention.size() <= 16);
  auto again = policy_from_json(policy_to_json(*policy), Policy{});
  require(again.ok() && policy_to_json(*again) == policy_to_json(*policy));
  // The newest, and what is named, always stays.
  for (auto number : expired(*policy, some_checkpoints())) require(number == 1);
  (void)format_retention(*policy);
}

void check_words(const std::string& text) {
  static const auto kept = some_checkpoints();
  if (auto found = resolve_point("vm", text, kept); found.ok()) require(found->id.machine == "vm");
  if (check_machine_name(text).ok())
    require(text.size() <= 64 && text.find('/') == std::string::npos && text[0] != '.');
  if (check_point_name(text).ok()) require(text.size() <= 64 && text.find('@') == std::string::npos);
  (void)parse_duration_ms(text);
  (void)parse_size(text);
  (void)parse_time_ns(text);
  if (auto rules = parse_retention(text); rules.ok()) check_policy({{"retention", *rules}});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  if (auto said = parse_agent_answer(text); said.ok()) require(said->contains("return") || said->contains("error"));
  check_words(text);
  auto request = parse_object(text);
  if (!request.ok()) {
    require(!error_answer(request.error()).empty());
    return 0;
  }
  // What ckptd writes it reads again.
  require(parse_object(dump(*request), 1 << 24).ok());
  for (const char* key : {"verb", "machine", "point", "as", "name", "holder"})
    if (auto word = string_field(*request, key); word.ok()) check_words(*word);
  for (const char* key : {"count", "timeout_s", "number"}) (void)number_field(*request, key);
  if (auto policy = request->find("policy"); policy != request->end() && policy->is_object()) check_policy(*policy);
  (void)check_answer(*request);
  return 0;
}
