// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Asks a restored machine until it answers (TTR), and goes on asking until some time after all is local (SL): one
// thread, any number of targets. What it finds is in `DIRECTORY/probe.json`: doc/control_protocol.md.
#pragma once

#include <list>
#include <string>
#include <vector>

#include "common/restore_state.h"
#include "probe/attempt.h"

namespace ckptd {

// Answers of one time span.
class Answers {
public:
  void add(std::int64_t latency_us) { latencies_us_.push_back(latency_us); }
  double rate(std::int64_t span_us) const;
  Json to_json(std::int64_t span_us) const;

private:
  std::vector<std::int64_t> latencies_us_;
};

class Prober {
public:
  // `directory` is RUN_DIR/restore/NAME, with a state.json that names probes.
  explicit Prober(std::string directory) : directory_(std::move(directory)) {}

  // Until the figures are complete, or the restore is over.
  ckpt::Status run();

private:
  struct Target {
    ProbeTarget target;
    Addresses addresses;
    std::list<Attempt> attempts;
    std::int64_t next_us = 0;
    std::int64_t first_us = 0;  // 0: no answer yet
    std::uint64_t first_ns = 0;
    std::string reason;  // of the last failure
    Answers between, after;
  };

  ckpt::Status wait_until_it_runs();
  ckpt::Status prepare();
  bool over();  // nothing more to find out
  void look_at_restore();
  void begin_attempts(Target& target);
  void step(Target& target);
  void count(Target& target, const Attempt& attempt);
  void wait();
  Json figures(const Target& target) const;
  void save();

  const std::string directory_;
  RestoreState state_;
  std::vector<Target> targets_;
  std::int64_t began_us_ = 0, answered_us_ = 0;  // 0: not yet
  std::int64_t local_us_ = 0;                    // when it was heard of: within 0.2 s
  std::int64_t now_us_ = 0, looked_at_us_ = 0, saved_at_us_ = 0;
  std::string phase_ = "waiting";
};

}  // namespace ckptd
