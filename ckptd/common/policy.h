// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ckpt/store.h"
#include "common/json.h"

namespace ckptd {

struct RetentionRule {
  std::uint64_t every_s = 0;  // 0: no thinning
  std::uint64_t for_s = 0;    // up to this age
};

struct Policy {
  std::uint32_t interval_ms = 1000;
  std::uint64_t consistent_ms = 0;  // between application-consistent points; 0: none by itself
  std::vector<RetentionRule> retention = {{0, 60}, {10, 600}, {60, 86'400}, {3600, 7 * 86'400}, {86'400, 90 * 86'400}};
};

// Fields that `json` lacks keep `base`'s values.
ckpt::Result<Policy> policy_from_json(const Json& json, const Policy& base);
Json policy_to_json(const Policy& policy);

// "all:60s,10s:10m,1m:1d"; "all" alone keeps everything for 100 years.
ckpt::Result<Json> parse_retention(const std::string& text);
std::string format_retention(const Policy& policy);
// "10m", or "none": 0.
ckpt::Result<std::uint64_t> parse_consistent_ms(const std::string& text);

// Numbers of the checkpoints (given oldest first) that the policy lets go. Ages are counted from the newest. Where one
// of several stays, it is an application-consistent one if there is any.
std::vector<std::uint64_t> expired(const Policy& policy, const std::vector<ckpt::CheckpointInfo>& checkpoints);

// Removes a few thousand at a time, oldest first: the store takes no more in one record. What was removed before an
// error stays so.
ckpt::Status remove_in_slices(const std::function<ckpt::Status(std::span<const std::uint64_t>)>& remove,
                              std::span<const std::uint64_t> numbers);

}  // namespace ckptd
