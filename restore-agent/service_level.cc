// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service_level.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace agent {

using ckpt::Code;
using ckpt::make_error;
using nlohmann::json;
using std::chrono::duration_cast;
using std::chrono::seconds;

namespace {

constexpr std::size_t vcpus_limit = 4096;
constexpr std::size_t seconds_limit = 600;
// Of a status file: no restore lasts longer, and sums of what is below stay far from overflowing.
constexpr std::uint64_t age_limit_us = 366ull * 86'400 * 1'000'000;

std::uint64_t now_ns() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(duration_cast<std::chrono::nanoseconds>(now).count());
}

// The share of `total_us` that was not waited for, in percent with two digits, rounded down.
double level_percent(std::uint64_t waited_us, std::uint64_t total_us) {
  double share = static_cast<double>(std::min(waited_us, total_us)) / static_cast<double>(total_us);
  return std::floor((1 - share) * 10'000 + 1e-6) / 100;
}

std::uint64_t number(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_number_unsigned() ? it->get<std::uint64_t>() : 0;
}

}  // namespace

void ServiceLevel::begin(std::vector<pid_t> vcpus, Instant now) {
  std::lock_guard guard(lock_);
  if (begun_ || vcpus.empty()) return;
  vcpus_ = std::move(vcpus);
  begun_ = true;
  begun_at_ = now;
  begun_ns_ = now_ns();
}

void ServiceLevel::resume(const json& before, Instant now) {
  std::lock_guard guard(lock_);
  auto threads = before.is_object() ? before.find("vcpu_threads") : before.end();
  auto series = before.is_object() ? before.find("waited_us_by_second") : before.end();
  if (begun_ || threads == before.end() || series == before.end() || !threads->is_array() || !series->is_array())
    return;
  std::uint64_t then_ns = number(before, "begun_ns"), counted_us = number(before, "counted_us");
  std::uint64_t age_us = (now_ns() - then_ns) / 1000;
  if (then_ns == 0 || age_us > age_limit_us || counted_us > age_us || threads->empty() ||
      threads->size() > vcpus_limit || series->size() > seconds_limit)
    return;
  for (const json& thread : *threads) vcpus_.push_back(thread.is_number_integer() ? thread.get<pid_t>() : 0);
  for (const json& second : *series)
    seconds_us_.push_back(second.is_number_unsigned() ? std::min(second.get<std::uint64_t>(), age_limit_us) : 0);
  begun_ = true;
  begun_ns_ = then_ns;
  begun_at_ = now - Microseconds(age_us);
  waited_us_ = std::min(number(before, "waited_us"), age_limit_us);
  add(begun_at_ + Microseconds(counted_us), now, vcpus_.size());
}

void ServiceLevel::end(Instant now) {
  std::lock_guard guard(lock_);
  if (ended_) return;
  for (const auto& [thread, since] : open_)
    if (counts(thread)) add(since, now, 1);
  open_.clear();
  ended_ = true;
  ended_at_ = now;
}

bool ServiceLevel::counts(pid_t thread) const {
  return std::find(vcpus_.begin(), vcpus_.end(), thread) != vcpus_.end();
}

void ServiceLevel::wait_begins(pid_t thread, Instant since) {
  std::lock_guard guard(lock_);
  if (thread == 0) unnamed_ = true;
  if (ended_) return;
  // Since when is only known roughly; two waits of one thread never overlap.
  auto last = last_end_.find(thread);
  if (last != last_end_.end()) since = std::max(since, last->second);
  open_.try_emplace(thread, since);
}

void ServiceLevel::wait_ends(pid_t thread, Instant now) {
  std::lock_guard guard(lock_);
  auto found = open_.find(thread);
  if (found == open_.end()) return;
  if (begun_ && counts(thread)) add(found->second, now, 1);
  open_.erase(found);
  if (begun_ && counts(thread)) last_end_[thread] = now;
}

void ServiceLevel::add(Instant since, Instant until, std::uint64_t threads) {
  since = std::max(since, begun_at_);
  while (since < until) {
    auto second = static_cast<std::size_t>(duration_cast<seconds>(since - begun_at_).count());
    Instant end = std::min(until, begun_at_ + seconds(second + 1));
    if (second >= seconds_limit) end = until;
    auto us = static_cast<std::uint64_t>(duration_cast<Microseconds>(end - since).count()) * threads;
    waited_us_ += us;
    if (second < seconds_limit) {
      if (seconds_us_.size() <= second) seconds_us_.resize(second + 1);
      seconds_us_[second] += us;
    }
    since = end;
  }
}

json ServiceLevel::to_json(Instant now) const {
  std::lock_guard guard(lock_);
  if (!begun_ || unnamed_) return json::object();
  // What is still waited for counts up to now.
  ServiceLevel sum;
  sum.vcpus_ = vcpus_;
  sum.begun_at_ = begun_at_;
  sum.waited_us_ = waited_us_;
  sum.seconds_us_ = seconds_us_;
  if (!ended_)
    for (const auto& [thread, since] : open_)
      if (counts(thread)) sum.add(since, now, 1);
  auto counted = duration_cast<Microseconds>((ended_ ? ended_at_ : now) - begun_at_);
  auto counted_us = static_cast<std::uint64_t>(std::max<std::int64_t>(counted.count(), 1));
  sum.seconds_us_.resize(std::min<std::uint64_t>(seconds_limit, (counted_us + 999'999) / 1'000'000));
  auto series = json::array();
  for (std::size_t i = 0; i < sum.seconds_us_.size(); ++i) {
    std::uint64_t length_us = std::min<std::uint64_t>(1'000'000, counted_us - i * 1'000'000);
    series.push_back(level_percent(sum.seconds_us_[i], length_us * vcpus_.size()));
  }
  return {{"vcpus", vcpus_.size()},
          {"vcpu_threads", vcpus_},
          {"begun_ns", begun_ns_},
          {"counted_us", counted_us},
          {"waited_us", sum.waited_us_},
          {"level_percent", level_percent(sum.waited_us_, counted_us * vcpus_.size())},
          {"level_percent_by_second", series},
          {"waited_us_by_second", sum.seconds_us_}};
}

ckpt::Result<std::vector<pid_t>> threads_from(const std::string& text) {
  std::vector<pid_t> threads;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    pid_t thread = 0;
    auto [rest, error] = std::from_chars(at, end, thread);
    bool more = rest != end && *rest == ',';
    if (error != std::errc() || thread <= 0 || (rest != end && !more) || threads.size() == vcpus_limit)
      return make_error(Code::invalid, "'" + text + "' are no threads: numbers with commas between them");
    threads.push_back(thread);
    at = rest + (more ? 1 : 0);
  }
  if (threads.empty()) return make_error(Code::invalid, "no threads given");
  return threads;
}

}  // namespace agent
