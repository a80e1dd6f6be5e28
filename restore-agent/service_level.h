// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How much of their time a restore leaves to the vCPUs: doc/restore_format.md, "Service level". Filled by the fault
// thread, read by the main one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ckpt/result.h"

namespace agent {

class ServiceLevel {
public:
  using Instant = std::chrono::steady_clock::time_point;

  // From `now` on these threads' waits count; a second call adds nothing. Until then nothing does.
  void begin(std::vector<pid_t> vcpus, Instant now);
  // What an agent before this one has counted, as to_json() gave it. Nobody knows who waited while there was none: all
  // of that time counts as waited for by every vCPU.
  void resume(const nlohmann::json& before, Instant now);
  // Nothing is missing any more.
  void end(Instant now);

  // One that waits already goes on. 0: the kernel does not say who, and no figure can be given.
  void wait_begins(pid_t thread, Instant since);
  void wait_ends(pid_t thread, Instant now);

  // An empty object before begin(), and when threads have no names.
  nlohmann::json to_json(Instant now) const;

private:
  using Microseconds = std::chrono::microseconds;

  bool counts(pid_t thread) const;
  // Adds to the seconds that it lies in.
  void add(Instant since, Instant until, std::uint64_t threads);

  mutable std::mutex lock_;  // protects all
  std::vector<pid_t> vcpus_;
  bool begun_ = false, ended_ = false, unnamed_ = false;
  Instant begun_at_, ended_at_;
  std::uint64_t begun_ns_ = 0;  // CLOCK_REALTIME, for the next agent
  std::map<pid_t, Instant> open_, last_end_;
  std::uint64_t waited_us_ = 0;
  std::vector<std::uint64_t> seconds_us_;  // waited for, by second since begin; the first ten minutes
};

// "12,13" as numbers of threads.
ckpt::Result<std::vector<pid_t>> threads_from(const std::string& text);

}  // namespace agent
