// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/consistent_points.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "common/clock.h"
#include "daemon/consistent_point.h"
#include "daemon/log.h"

namespace ckptd {

namespace {

constexpr int look_interval_ms = 500;
constexpr std::uint64_t point_limit_ms = 60'000;
// One that fails is tried again after its time, at the latest after this.
constexpr std::uint64_t retry_ms = 60'000;

}  // namespace

ConsistentPoints::ConsistentPoints(Daemon& daemon) : daemon_(daemon), thread_([this] { run(); }) {}

ConsistentPoints::~ConsistentPoints() { thread_.join(); }

void ConsistentPoints::run() {
  while (!daemon_.stopping()) {
    const auto records = daemon_.records();
    std::erase_if(turns_,
                  [&](const auto& turn) { return !records.contains(turn.first) && !turn.second.taken.valid(); });
    for (const auto& [machine, record] : records) look(machine, record.policy);
    pollfd stop{daemon_.stop_fd(), POLLIN, 0};
    ::poll(&stop, 1, look_interval_ms);
  }
}

void ConsistentPoints::look(const std::string& machine, const Policy& policy) {
  Turn& turn = turns_[machine];
  if (turn.taken.valid()) {
    if (turn.taken.wait_for(std::chrono::seconds(0)) == std::future_status::ready) end(machine, turn);
    return;
  }
  if (!is_due(machine, policy, turn)) return;
  turn.tried_ms = monotonic_ms();
  try {
    turn.taken = std::async(std::launch::async, [this, machine] {
      return take_consistent_point(daemon_, machine, point_limit_ms, [] { return false; });
    });
  } catch (const std::system_error& error) {
    log_line(machine + ": no application-consistent point now: " + error.code().message());
  }
}

bool ConsistentPoints::is_due(const std::string& name, const Policy& policy, const Turn& turn) const {
  if (policy.consistent_ms == 0) return false;
  auto machine = daemon_.machine(name);
  if (!machine || machine->status().state != "capturing") return false;
  const auto since_try_ms = static_cast<std::uint64_t>(monotonic_ms() - turn.tried_ms);
  if (turn.tried_ms != 0 && since_try_ms < std::min(policy.consistent_ms, retry_ms)) return false;
  auto kept = daemon_.checkpoints(name);
  if (!kept.ok()) return false;
  auto newest =
      std::find_if(kept->rbegin(), kept->rend(), [](const auto& info) { return info.application_consistent; });
  if (newest == kept->rend()) return true;
  const std::uint64_t now_ns = wall_clock_ns();
  // The host's clock may have been set back since.
  return now_ns < newest->wall_clock_ns || now_ns - newest->wall_clock_ns >= policy.consistent_ms * 1'000'000;
}

void ConsistentPoints::end(const std::string& name, Turn& turn) {
  auto taken = turn.taken.get();
  const std::string complaint = taken.ok() ? "" : taken.error().message();
  if (complaint != turn.complaint)
    log_line(name + ": application-consistent points: " + (taken.ok() ? "taken again" : complaint));
  turn.complaint = complaint;
  if (auto machine = daemon_.machine(name)) machine->set_consistent_trouble(complaint);
}

}  // namespace ckptd
