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

// Which probes are not answered yet, and why.
std::string missing_answers(const ckpt::Result<Json>& found) {
  std::vector<std::string> missing;
  const Json probes = found.ok() ? member_of(*found, "probes") : Json();
  for (const Json& probe : probes.is_array() ? probes : Json::array())
    if (member_of(probe, "ttr_ms").is_null())
      missing.push_back(text_of(probe, "probe") + ": " + text_of(probe, "reason", "asked for the first time"));
  return join(missing, "; ");
}

}  // namespace

// The first useful answer.
ckpt::Status Restore::wait_for_answers() {
  if (state_.probes.empty()) return {};
  SlowProgress progress;
  for (;; std::this_thread::sleep_for(answer_look)) {
    bool over = !alive(probe_);
    auto found = read_json_file(directory_ + "/probe.json");
    if (found.ok() && member_of(*found, "ttr_ms").is_number_unsigned()) {
      ttr_ms_ = member_of(*found, "ttr_ms");
      phases_.push_back({"first answer", ttr_ms_.get<std::int64_t>()});
      return {};
    }
    if (!over) {
      progress.show([&] { return "the guest runs and does not answer yet: " + missing_answers(found); });
      continue;
    }
    return make_error(Code::unavailable, "the guest runs, but does not answer within " +
                                             format_duration_ms(state_.probe_timeout_ms) + ": " +
                                             missing_answers(found));
  }
}

Json Restore::report_json() const {
  Json phases = Json::array();
  for (const auto& phase : phases_) phases.push_back({{"phase", phase.name}, {"at_ms", phase.at_ms}});
  return {{"name", state_.name},
          {"source", state_.source},
          {"checkpoint", member_of(begun_, "checkpoint")},
          {"mode", state_.mode},
          {"phases", phases},
          {"running_ms", (state_.running_ns - state_.begun_ns) / 1'000'000},
          {"ttr_ms", ttr_ms_},
          {"clock", clock_set_ ? "now" : "continue"},
          {"qemu_pid", state_.qemu.pid}};
}

void Restore::report_text() const {
  std::cout << state_.name << " runs from " << state_.source << " of "
            << format_time(number_of(member_of(begun_, "checkpoint"), "wall_clock_ns")) << ", " << phases_.back().at_ms
            << " ms after the request:\n";
  std::int64_t before_ms = 0;
  for (const auto& phase : phases_) {
    std::cout << "  " << phase.name << std::string(18 - std::min<std::size_t>(17, phase.name.size()), ' ') << "+"
              << phase.at_ms - before_ms << " ms\n";
    before_ms = phase.at_ms;
  }
  std::cout << std::flush;
}

// The guest runs, though maybe without the answers that were wanted: `status`.
ckpt::Status Restore::report(ckpt::Status status) {
  if (!context_.json) report_text();
  Json document = report_json();
  if (options_.wait) {
    auto over = await_restores(context_, state_.name);
    ckpt::Status ended = over.ok() ? restore_succeeded(over->at("restores").at(0)) : ckpt::Status(over.error());
    if (over.ok()) document["restore"] = over->at("restores").at(0);
    if (over.ok() && !context_.json) std::cout << restore_line(document["restore"]) << "\n" << std::flush;
    if (status.ok()) status = ended;
  }
  if (context_.json) context_.print_json(document, status);
  while (options_.foreground && alive(state_.qemu)) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  return status;
}

}  // namespace ckptd
