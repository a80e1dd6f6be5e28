// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/point.h"

#include <algorithm>

#include "common/text.h"

namespace ckptd {

using ckpt::CheckpointInfo;
using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::uint64_t smallest_unix_time = 1'000'000'000;

ckpt::Result<CheckpointInfo> newest_until(const std::string& machine, const std::string& point,
                                          std::uint64_t instant_ns, const std::vector<CheckpointInfo>& checkpoints) {
  const CheckpointInfo* best = nullptr;
  for (const auto& info : checkpoints)
    if (info.wall_clock_ns <= instant_ns && (!best || info.wall_clock_ns >= best->wall_clock_ns)) best = &info;
  if (best) return *best;
  return make_error(Code::not_found, machine + " has no checkpoint as old as '" + point + "': the oldest kept is of " +
                                         format_time(checkpoints.front().wall_clock_ns));
}

}  // namespace

ckpt::Result<CheckpointInfo> resolve_point(const std::string& machine, const std::string& point,
                                           const std::vector<CheckpointInfo>& checkpoints) {
  if (checkpoints.empty())
    return make_error(Code::not_found, machine + " has no checkpoint yet: see 'ckptctl status " + machine + "'");
  if (point.empty() || point == "latest") return checkpoints.back();
  // Names first: a name that was given before looks like nothing else, so this only saves a rule.
  for (const auto& info : checkpoints)
    if (info.name == point) return info;
  if (all_digits(point) && point.size() <= 18) {
    std::uint64_t number = std::stoull(point);
    if (number >= smallest_unix_time)
      return newest_until(machine, point, number * 1'000'000'000 + 999'999'999, checkpoints);
    for (const auto& info : checkpoints)
      if (info.id.number == number) return info;
    return make_error(Code::not_found, machine + " has no checkpoint " + point +
                                           " (kept: " + std::to_string(checkpoints.front().id.number) + " to " +
                                           std::to_string(checkpoints.back().id.number) + "): see 'ckptctl list " +
                                           machine + "'");
  }
  if (point[0] == '-') {
    CKPT_ASSIGN(auto ago_ms, parse_duration_ms(std::string_view(point).substr(1)));
    std::uint64_t newest_ns = checkpoints.back().wall_clock_ns;
    std::uint64_t ago_ns = std::min(newest_ns, ago_ms * 1'000'000);
    return newest_until(machine, point, newest_ns - ago_ns, checkpoints);
  }
  if (auto instant_ns = parse_time_ns(point); instant_ns.ok())
    return newest_until(machine, point, *instant_ns, checkpoints);
  return make_error(Code::not_found,
                    machine + " has no checkpoint named '" + point + "': see 'ckptctl list " + machine +
                        "'; other points are a number, latest, -30s or a time like 2026-03-01T12:00:00");
}

ckpt::Status check_point_name(const std::string& name) {
  auto plain = [](char c) { return c > ' ' && c != '@' && c != '/' && c != 127; };
  if (name.empty() || name.size() > 64 || name == "latest" || name[0] == '-' || all_digits(name) ||
      parse_time_ns(name).ok() || !std::all_of(name.begin(), name.end(), plain))
    return make_error(Code::invalid,
                      "'" + name.substr(0, 80) +
                          "' cannot name a checkpoint: use 1 to 64 characters without "
                          "spaces, '@' and '/', not 'latest', a number or a time, not starting with '-'");
  return {};
}

}  // namespace ckptd
