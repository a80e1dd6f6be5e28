// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a restore says of itself when the guest runs.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "common/clock.h"
#include "common/text.h"
#include "ctl/restore.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr auto answer_look = std::chrono::milliseconds(5);

}  // namespace

// The first useful answer.
ckpt::Status Restore::wait_for_answers() {
  if (state_.probes.empty()) return {};
  for (;; std::this_thread::sleep_for(answer_look)) {
    bool over = !alive(probe_);
    auto found = read_json_file(directory_ + "/probe.json");
    if (found.ok() && member_of(*found, "ttr_ms").is_number_unsigned()) {
      ttr_ms_ = member_of(*found, "ttr_ms");
      phases_.push_back({"first answer", ttr_ms_.get<std::int64_t>()});
      return {};
    }
    if (!over) continue;
    std::vector<std::string> missing;
    const Json& probes = found.ok() ? member_of(*found, "probes") : member_of(Json(), "");
    for (const Json& probe : probes.is_array() ? probes : Json::array())
      if (member_of(probe, "ttr_ms").is_null())
        missing.push_back(text_of(probe, "probe") + ": " + text_of(probe, "reason"));
    return make_error(Code::unavailable, "the guest runs, but does not answer within " +
                                             format_duration_ms(state_.probe_timeout_ms) + ": " + join(missing, "; "));
  }
}

ckpt::Status Restore::report() {
  const Json checkpoint = begun_.value("checkpoint", Json::object());
  if (context_.json && !options_.wait) {
    Json phases = Json::array();
    for (const auto& phase : phases_) phases.push_back({{"phase", phase.name}, {"at_ms", phase.at_ms}});
    context_.print_json({{"name", state_.name},
                         {"source", state_.source},
                         {"checkpoint", checkpoint},
                         {"mode", state_.mode},
                         {"phases", phases},
                         {"running_ms", (state_.running_ns - state_.begun_ns) / 1'000'000},
                         {"ttr_ms", ttr_ms_},
                         {"clock", clock_set_ ? "now" : "continue"},
                         {"qemu_pid", state_.qemu.pid}});
  } else if (!context_.json) {
    std::cout << state_.name << " runs from " << state_.source << " of "
              << format_time(number_of(checkpoint, "wall_clock_ns")) << ", " << phases_.back().at_ms
              << " ms after the request:\n";
    std::int64_t before_ms = 0;
    for (const auto& phase : phases_) {
      std::cout << "  " << phase.name << std::string(18 - std::min<std::size_t>(17, phase.name.size()), ' ') << "+"
                << phase.at_ms - before_ms << " ms\n";
      before_ms = phase.at_ms;
    }
    std::cout << std::flush;
  }
  if (options_.wait) CKPT_TRY(follow_restores(context_, state_.name));
  while (options_.foreground && alive(state_.qemu)) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  return {};
}

}  // namespace ckptd
