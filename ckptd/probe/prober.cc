// SPDX-License-Identifier: LGPL-2.1-or-later
#include "probe/prober.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "common/clock.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr auto start_look = std::chrono::milliseconds(2);
constexpr std::int64_t interval_us = 10'000;
// What hangs may have been lost on its way, so others are sent after it; fewer when many hang.
constexpr std::size_t many_attempts = 32;
constexpr std::int64_t slow_interval_us = 100'000;
constexpr std::int64_t attempt_limit_us = 5'000'000;
constexpr std::size_t commands_limit = 4;
constexpr std::int64_t after_us = 10'000'000;
constexpr std::int64_t measure_limit_us = 600'000'000;
constexpr std::int64_t look_interval_us = 200'000;
constexpr std::int64_t save_interval_us = 500'000;

std::int64_t monotonic_us() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
}

std::int64_t share_of(const std::vector<std::int64_t>& sorted, double share) {
  return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(share * static_cast<double>(sorted.size())))];
}

// As far as that can be told without reading it. Some file systems give the next file the number of the last one.
bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

bool before_start(const RestoreState& state) { return state.phase == "starting" || state.phase == "resuming"; }
bool has_ended(const RestoreState& state) { return state.phase == "ended" || state.phase == "failed"; }

}  // namespace

double Answers::rate(std::int64_t span_us) const {
  return span_us > 0 ? static_cast<double>(latencies_us_.size()) * 1e6 / static_cast<double>(span_us) : 0;
}

Json Answers::to_json(std::int64_t span_us) const {
  Json json = {{"span_ms", span_us / 1000}, {"answers", latencies_us_.size()}};
  if (latencies_us_.empty()) return json;
  auto sorted = latencies_us_;
  std::sort(sorted.begin(), sorted.end());
  json["per_second"] = std::floor(rate(span_us) * 10) / 10;
  json["p50_us"] = share_of(sorted, 0.5);
  json["p99_us"] = share_of(sorted, 0.99);
  json["max_us"] = sorted.back();
  return json;
}

ckpt::Status Prober::run() {
  CKPT_TRY(prepare());
  save();
  CKPT_TRY(wait_until_it_runs());
  began_us_ = now_us_ = monotonic_us();
  phase_ = "asking";
  save();
  while (!over()) {
    for (Target& target : targets_) {
      begin_attempts(target);
      step(target);
    }
    wait();
    if (now_us_ - looked_at_us_ >= look_interval_us) look_at_restore();
    if (now_us_ - saved_at_us_ >= save_interval_us) save();
  }
  save();
  return {};
}

ckpt::Status Prober::prepare() {
  CKPT_ASSIGN(state_, load_restore(directory_));
  for (const std::string& text : state_.probes) {
    Target target;
    CKPT_ASSIGN(target.target, parse_probe(text));
    if (target.target.kind != ProbeTarget::Kind::exec) {
      CKPT_ASSIGN(target.addresses, resolve(target.target));
    }
    targets_.push_back(std::move(target));
  }
  if (targets_.empty()) return make_error(Code::invalid, directory_ + " has no probes");
  return {};
}

// Nothing can answer before; and a connection that waits in front of a stopped guest would only be in the way.
ckpt::Status Prober::wait_until_it_runs() {
  std::string path = directory_ + "/state.json";
  struct stat seen {};
  for (;; std::this_thread::sleep_for(start_look)) {
    struct stat status;
    if (::stat(path.c_str(), &status) != 0) return make_error(Code::cancelled, "the restore has gone");
    if (same_file(status, seen)) continue;
    seen = status;
    CKPT_ASSIGN(state_, load_restore(directory_));
    if (has_ended(state_)) return make_error(Code::cancelled, "the restore has " + state_.phase);
    if (!before_start(state_)) return {};
  }
}

bool Prober::over() {
  if (has_ended(state_)) {
    phase_ = "ended";
  } else if (!answered_us_ && now_us_ - began_us_ > static_cast<std::int64_t>(state_.probe_timeout_ms) * 1000) {
    phase_ = "no answer";
  } else if (answered_us_ && (now_us_ - answered_us_ > measure_limit_us ||
                              (local_us_ && now_us_ - std::max(local_us_, answered_us_) > after_us))) {
    phase_ = "done";
  } else {
    return false;
  }
  return true;
}

void Prober::look_at_restore() {
  looked_at_us_ = now_us_;
  auto loaded = load_restore(directory_);
  if (!loaded.ok()) return;
  state_ = loaded.take();
  if (!local_us_ && state_.local_ns > 0) local_us_ = now_us_;
}

void Prober::begin_attempts(Target& target) {
  if (now_us_ < target.next_us) return;
  bool command = target.target.kind == ProbeTarget::Kind::exec;
  if (target.attempts.size() >= (command ? commands_limit : many_attempts * 4)) return;
  // The first answer is looked for with many, the rate of answers with one after the other.
  if (target.first_us && !target.attempts.empty()) return;
  target.attempts.emplace_back(target.target, target.addresses.get(), now_us_);
  target.next_us = now_us_ + (target.attempts.size() > many_attempts ? slow_interval_us : interval_us);
}

void Prober::step(Target& target) {
  for (auto it = target.attempts.begin(); it != target.attempts.end();) {
    auto outcome = it->step();
    if (outcome == Attempt::Outcome::pending && now_us_ - it->begun_us() > attempt_limit_us)
      target.reason = "no answer within 5 s";
    else if (outcome == Attempt::Outcome::pending) {
      ++it;
      continue;
    }
    if (outcome == Attempt::Outcome::failed) target.reason = it->reason();
    bool first = outcome == Attempt::Outcome::answered && !target.first_us;
    if (outcome == Attempt::Outcome::answered) count(target, *it);
    it = target.attempts.erase(it);
    if (first) {
      target.attempts.clear();
      return;
    }
    if (target.first_us) target.next_us = now_us_ + interval_us;
  }
}

void Prober::count(Target& target, const Attempt& attempt) {
  now_us_ = monotonic_us();
  if (target.first_us) {
    std::int64_t latency_us = now_us_ - attempt.begun_us();
    if (!local_us_) target.between.add(latency_us);
    if (local_us_ && answered_us_) target.after.add(latency_us);
    return;
  }
  target.first_us = now_us_;
  target.first_ns = wall_clock_ns();
  target.next_us = now_us_ + interval_us;
  target.reason.clear();
  bool all = std::all_of(targets_.begin(), targets_.end(), [](const Target& each) { return each.first_us; });
  if (all) {
    answered_us_ = now_us_;
    phase_ = "measuring";
  }
  save();
}

void Prober::wait() {
  std::vector<pollfd> items;
  std::int64_t next_us = monotonic_us() + interval_us;
  for (const Target& target : targets_) {
    next_us = std::min(next_us, target.next_us);
    for (const Attempt& attempt : target.attempts) items.push_back({attempt.descriptor(), attempt.events(), 0});
  }
  std::int64_t left_us = std::max<std::int64_t>(next_us - monotonic_us(), 0);
  timespec left{left_us / 1'000'000, (left_us % 1'000'000) * 1000};
  ::ppoll(items.data(), items.size(), &left, nullptr);
  now_us_ = monotonic_us();
}

Json Prober::figures(const Target& target) const {
  Json json = {
      {"probe", target.target.text}, {"reason", target.reason}, {"ttr_ms", nullptr}, {"level_percent", nullptr}};
  if (!target.first_us) return json;
  json["ttr_ms"] = (target.first_ns - std::min(target.first_ns, state_.begun_ns)) / 1'000'000;
  std::int64_t between_us = std::max<std::int64_t>((local_us_ ? local_us_ : now_us_) - target.first_us, 0);
  json["between"] = target.between.to_json(between_us);
  if (!local_us_ || !answered_us_) return json;
  std::int64_t after_span_us = now_us_ - std::max(local_us_, answered_us_);
  json["after"] = target.after.to_json(after_span_us);
  double normal = target.after.rate(after_span_us);
  if (phase_ == "done" && normal > 0 && between_us > 0)
    json["level_percent"] = std::floor(std::min(1.0, target.between.rate(between_us) / normal) * 1000) / 10;
  return json;
}

void Prober::save() {
  saved_at_us_ = now_us_;
  Json probes = Json::array();
  Json ttr_ms, level;
  for (const Target& target : targets_) {
    Json json = figures(target);
    if (answered_us_) ttr_ms = std::max(ttr_ms.is_null() ? 0 : ttr_ms.get<std::uint64_t>(), number_of(json, "ttr_ms"));
    if (json["level_percent"].is_number() && (level.is_null() || json["level_percent"] < level))
      level = json["level_percent"];
    probes.push_back(std::move(json));
  }
  (void)write_json_file(
      directory_ + "/probe.json",
      {{"version", 1}, {"state", phase_}, {"ttr_ms", ttr_ms}, {"level_percent", level}, {"probes", probes}},
      os::Durable::no);
}

}  // namespace ckptd
