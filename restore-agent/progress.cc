// SPDX-License-Identifier: LGPL-2.1-or-later
#include "progress.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

namespace agent {

namespace {

constexpr std::size_t marks_limit = 32;
constexpr std::uint64_t silence_limit_ms = 2000;

const char* state_name(State state, Obstacle obstacle) {
  switch (state) {
    case State::waiting_for_qemu:
      return obstacle == Obstacle::store ? "waiting for store" : "waiting for QEMU";
    case State::restoring:
      return obstacle == Obstacle::store  ? "waiting for store"
             : obstacle == Obstacle::host ? "waiting for host memory"
                                          : "restoring";
    case State::done:
      return "done";
    case State::gone:
      return "gone";
    case State::stopped:
      return "stopped";
  }
  return "";
}

}  // namespace

Progress::Progress(const Options& options)
    : checkpoint_(ckpt::to_string(options.checkpoint)),
      started_ns_(static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
              .count())),
      started_(std::chrono::steady_clock::now()),
      mode_(options.mode),
      rate_at_(started_) {
  bandwidth_bytes_s = options.bandwidth_bytes_s;
}

void Progress::set_state(State state) { state_ = state; }

void Progress::set_obstacle(Obstacle obstacle, const std::string& reason) {
  std::lock_guard guard(lock_);
  obstacle_ = obstacle;
  reason_ = reason;
}

std::uint64_t Progress::elapsed_ms() const {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started_).count());
}

void Progress::mark(const std::string& name) {
  std::lock_guard guard(lock_);
  if (marks_ms_.size() < marks_limit) marks_ms_.try_emplace(name, elapsed_ms());
}

double Progress::rate_mib_s() {
  auto now = std::chrono::steady_clock::now();
  double seconds = std::chrono::duration<double>(now - rate_at_).count();
  if (seconds >= 0.4) {
    std::uint64_t bytes = bytes_read.load();
    rate_ = static_cast<double>(bytes - rate_bytes_) / seconds / (1 << 20);
    rate_bytes_ = bytes;
    rate_at_ = now;
  }
  return rate_;
}

std::string Progress::json() {
  std::lock_guard guard(lock_);
  std::uint64_t requested = faults.load();
  Obstacle obstacle = obstacle_.load();
  std::string reason = reason_;
  std::uint64_t since_ms = reading_since_ms_.load(), now_ms = elapsed_ms();
  if (obstacle == Obstacle::none && since_ms != 0 && now_ms > since_ms + silence_limit_ms) {
    obstacle = Obstacle::store;
    reason = "the store has not answered for " + std::to_string((now_ms - since_ms) / 1000) + " s";
  }
  nlohmann::json out = {
      {"version", 1},
      {"pid", getpid()},
      {"checkpoint", checkpoint_},
      {"mode", mode_name(mode())},
      {"state", state_name(state_.load(), obstacle)},
      {"reason", reason},
      {"taken_over", taken_over_.load()},
      {"started_ns", started_ns_},
      {"elapsed_ms", elapsed_ms()},
      {"pages_total", pages_total.load()},
      {"pages_present", pages_present.load()},
      {"pages_faulted", pages_faulted.load()},
      {"pages_read_ahead", pages_read_ahead.load()},
      {"pages_prefetched", pages_prefetched.load()},
      {"pages_zero", pages_zero.load()},
      {"bytes_read", bytes_read.load()},
      {"rate_mib_s", rate_mib_s()},
      {"bandwidth_bytes_s", bandwidth_bytes_s.load()},
      {"faults", requested},
      {"faults_pending", faults_pending.load()},
      {"fault_p50_us", fault_us.percentile(0.5)},
      {"fault_p99_us", fault_us.percentile(0.99)},
      {"fault_max_us", fault_us.max()},
      {"store_errors", store_errors.load()},
      {"marks_ms", marks_ms_},
      {"service", service.to_json(std::chrono::steady_clock::now())},
  };
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace agent
