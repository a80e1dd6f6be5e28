// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Commands that change nothing.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <thread>

#include "ckpt/store.h"
#include "common/clock.h"
#include "common/text.h"
#include "ctl/commands.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

std::string ms(std::uint64_t us) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", static_cast<double>(us) / 1000);
  return text;
}

std::string duration_or_dash(const Json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_number_unsigned() ? format_duration_ms(it->get<std::uint64_t>()) : "-";
}

const Json& array_of(const Json& object, const char* key) {
  static const Json empty = Json::array();
  auto it = object.find(key);
  return it != object.end() && it->is_array() ? *it : empty;
}

std::string percent(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %%", value);
  return text;
}

std::string service_text(const Json& restore) {
  const Json& service = member_of(restore, "service");
  std::vector<std::string> levels;
  if (const Json& level = member_of(service, "vcpu_percent"); level.is_number())
    levels.push_back(percent(level.get<double>()) + " of vCPU time");
  if (const Json& level = member_of(service, "answers_percent"); level.is_number())
    levels.push_back(percent(level.get<double>()) + " of answers");
  return levels.empty() ? "" : ", SL " + join(levels, ", ");
}

// Of a machine that has application-consistent points, or is to have them, or whose guest is frozen.
std::string consistency_text(const Json& machine, std::uint64_t now_ns) {
  auto age = [&](std::uint64_t instant_ns) {
    return format_duration_ms(now_ns > instant_ns ? (now_ns - instant_ns) / 1'000'000 : 0);
  };
  const std::string name = text_of(machine, "name") + ": ";
  std::string text;
  const auto every_ms = number_of(machine, "consistent_ms"), newest_ns = number_of(machine, "newest_consistent_ns");
  if (every_ms || newest_ns)
    text += name +
            (newest_ns ? "newest application-consistent point " + age(newest_ns) + " old"
                       : "no application-consistent point yet") +
            (every_ms ? ", one every " + format_duration_ms(every_ms) : "") + "\n";
  if (auto trouble = text_of(machine, "consistent_trouble"); !trouble.empty())
    text += name + "the application-consistent point that was due was not taken: " + trouble + "\n";
  const Json& frozen = member_of(machine, "frozen");
  if (frozen.is_object())
    text += name + "its file systems are FROZEN since " + age(number_of(frozen, "since_ns")) + ", " +
            text_of(frozen, "reason") + (text_of(frozen, "trouble").empty() ? "" : ": " + text_of(frozen, "trouble")) +
            "\n";
  return text;
}

std::string overview_text(const Json& answer) {
  std::vector<std::vector<std::string>> rows = {
      {"MACHINE", "STATE", "EPOCH", "RPO", "INTERVAL", "PAUSE p50/p99 ms", "DIRTY MiB", "STORED MiB", "CHECKPOINTS"}};
  std::string reasons;
  for (const Json& machine : array_of(answer, "machines")) {
    std::string state = text_of(machine, "state");
    if (auto left = number_of(machine, "remaining_bytes"); state == "copying" && left)
      state += " (" + format_size(left) + " left)";
    auto effective = number_of(machine, "effective_interval_ms");
    rows.push_back({text_of(machine, "name"), state, std::to_string(number_of(machine, "epoch")),
                    duration_or_dash(machine, "rpo_ms"),
                    format_duration_ms(effective ? effective : number_of(machine, "interval_ms")),
                    ms(number_of(machine, "pause_p50_us")) + " / " + ms(number_of(machine, "pause_p99_us")),
                    format_mib(number_of(machine, "dirty_bytes")), format_mib(number_of(machine, "stored_bytes")),
                    std::to_string(number_of(machine, "checkpoints"))});
    reasons += consistency_text(machine, number_of(answer, "now_ns"));
    if (auto reason = text_of(machine, "reason"); !reason.empty())
      reasons += text_of(machine, "name") + ": " + reason + "\n";
  }
  const Json store = member_of(answer, "store");
  std::string text = format_table(rows) + reasons;
  for (const Json& domain : array_of(answer, "unprotected"))
    text += "domain " + text_of(domain, "name") + " runs UNPROTECTED: " + text_of(domain, "reason") + "\n";
  text += "store " + text_of(store, "path") + ": " + std::to_string(number_of(store, "checkpoints")) + " points, " +
          format_size(number_of(store, "stored_bytes")) + ", " + format_size(number_of(store, "free_bytes")) + " free" +
          (flag_of(store, "damaged") ? ", DAMAGED: read-only" : "") + "\n";
  for (const Json& damage : array_of(store, "damage"))
    text += "store: " + text_of(damage, "place") + " is damaged (" + text_of(damage, "reason") +
            "): 'ckptctl verify' names the checkpoints to remove; older garbage is kept until then\n";
  for (const Json& restore : array_of(answer, "restores")) text += "restore " + restore_line(restore) + "\n";
  return text;
}

bool restore_over(const Json& restore) {
  std::string phase = text_of(restore, "phase");
  bool lazy = text_of(restore, "mode") == "lazy" && phase == "running";
  return lazy || phase == "local" || phase == "ended" || phase == "failed";
}

}  // namespace

std::string restore_line(const Json& restore) {
  const Json agent = member_of(restore, "agent");
  std::string line = text_of(restore, "name") + " from " + text_of(restore, "source") + ": " +
                     text_of(restore, "phase") + " (" + text_of(restore, "mode") + ")";
  if (auto total = number_of(agent, "pages_total"); total > 0)
    line += ", memory " + std::to_string(number_of(agent, "pages_present") * 100 / total) + " %";
  line += ", guest ran after " + duration_or_dash(restore, "running_ms") + ", TTR " +
          duration_or_dash(restore, "ttr_ms") + ", BTN " + duration_or_dash(restore, "btn_ms") + service_text(restore);
  if (auto restarts = number_of(restore, "agent_restarts"))
    line += ", agent replaced " + std::to_string(restarts) + " x";
  if (auto reason = text_of(restore, "reason"); !reason.empty()) line += ": " + reason;
  return line;
}

ckpt::Status show_status(const Context& context, const std::string& machine) {
  CKPT_ASSIGN(Json answer, context.request({{"verb", "status"}, {"machine", machine}}));
  if (context.json)
    context.print_json(answer);
  else
    std::cout << overview_text(answer);
  return {};
}

ckpt::Status show_watch(const Context& context, const std::string& machine, std::uint64_t count) {
  bool terminal = ::isatty(1);
  auto show = [&](Json answer) {
    if (context.json)
      context.print_json_line(std::move(answer));
    else
      std::cout << (terminal ? "\033[H\033[2J" : "") << overview_text(answer) << (terminal ? "" : "\n") << std::flush;
    return static_cast<bool>(std::cout);
  };
  Json request = {{"verb", "watch"}, {"machine", machine}};
  if (count > 0) request["count"] = count;
  auto last = context.request(request, show);
  if (last.ok())
    show(last.take());
  else if (context.json)
    context.print_json_line(Json::object(), last.error());
  return last.ok() ? ckpt::Status() : last.error();
}

ckpt::Status show_list(const Context& context, const std::string& machine) {
  Json all = Json::array();
  auto add = [&](const Json& answer) {
    for (const Json& item : array_of(answer, "checkpoints")) all.push_back(item);
    return true;
  };
  CKPT_ASSIGN(Json last, context.request({{"verb", "list"}, {"machine", machine}}, add));
  add(last);
  if (context.json) {
    context.print_json({{"checkpoints", all}});
    return {};
  }
  std::vector<std::vector<std::string>> rows = {
      {"CHECKPOINT", "TIME", "AGE", "CARRIED", "STORED", "NAME", "PINS", "KIND"}};
  std::uint64_t now_ns = wall_clock_ns();
  for (const Json& item : all) {
    auto instant_ns = number_of(item, "wall_clock_ns");
    std::vector<std::string> pins;
    for (const Json& pin : array_of(item, "pins"))
      if (pin.is_string()) pins.push_back(pin.get<std::string>());
    rows.push_back({ckpt::to_string({text_of(item, "machine"), number_of(item, "number")}), format_time(instant_ns),
                    format_duration_ms(now_ns > instant_ns ? (now_ns - instant_ns) / 1'000'000 : 0),
                    format_size(number_of(item, "data_bytes")), format_size(number_of(item, "stored_bytes")),
                    text_of(item, "name"), join(pins, ","),
                    flag_of(item, "application_consistent") ? "application-consistent" : ""});
  }
  std::cout << format_table(rows);
  return {};
}

ckpt::Status show_checkpoint(const Context& context, const Target& target) {
  CKPT_ASSIGN(Json answer, context.request({{"verb", "show"}, {"machine", target.machine}, {"point", target.point}}));
  if (context.json) {
    context.print_json(answer);
    return {};
  }
  const Json checkpoint = member_of(answer, "checkpoint");
  const Json epoch = member_of(answer, "epoch");
  const Json config = member_of(answer, "config");
  std::cout << text_of(checkpoint, "machine") << "@" << number_of(checkpoint, "number") << "\n"
            << "  time          " << format_time(number_of(checkpoint, "wall_clock_ns")) << "\n"
            << "  parent        " << text_of(checkpoint, "parent", "none") << "\n"
            << "  name          " << text_of(checkpoint, "name") << "\n"
            << "  kind          "
            << (flag_of(checkpoint, "application_consistent") ? "application-consistent" : "crash-consistent")
            << (flag_of(checkpoint, "frozen") ? ", frozen: thawed when it is restored" : "") << "\n"
            << "  run state     " << text_of(epoch, "run_state") << ", paused " << ms(number_of(epoch, "pause_us"))
            << " ms\n"
            << "  carried       " << format_size(number_of(checkpoint, "data_bytes")) << ", stored "
            << format_size(number_of(checkpoint, "stored_bytes")) << "\n"
            << "  QEMU          " << text_of(epoch, "qemu_version") << ", " << text_of(epoch, "machine_type") << "\n";
  for (const Json& object : array_of(answer, "objects"))
    std::cout << "  " << text_of(object, "class")
              << std::string(14 - std::min<std::size_t>(13, text_of(object, "class").size()), ' ')
              << text_of(object, "name") << ", " << format_size(number_of(object, "size_bytes")) << "\n";
  std::vector<std::string> argv;
  for (const Json& word : array_of(config, "argv"))
    if (word.is_string()) argv.push_back(word.get<std::string>());
  if (!argv.empty()) std::cout << "  command line  " << join(argv, " ") << "\n";
  return {};
}

ckpt::Status show_restores(const Context& context, const std::string& machine) {
  CKPT_ASSIGN(Json answer, context.request({{"verb", "restores"}, {"machine", machine}}));
  if (context.json) {
    context.print_json(answer);
    return {};
  }
  for (const Json& restore : array_of(answer, "restores")) std::cout << restore_line(restore) << "\n";
  return {};
}

ckpt::Result<Json> await_restores(const Context& context, const std::string& machine) {
  for (;; std::this_thread::sleep_for(std::chrono::seconds(1))) {
    CKPT_ASSIGN(Json answer, context.request({{"verb", "restores"}, {"machine", machine}}));
    const Json& restores = array_of(answer, "restores");
    if (restores.empty() && !machine.empty())
      return make_error(Code::not_found, "no restore onto '" + machine + "' is known: see 'ckptctl restores'");
    std::vector<std::string> under_way;
    for (const Json& restore : restores)
      if (!restore_over(restore)) under_way.push_back(restore_line(restore));
    if (under_way.empty()) {
      end_progress();
      return answer;
    }
    show_progress(join(under_way, "; "));
  }
}

ckpt::Status restore_succeeded(const Json& restore) {
  std::string phase = text_of(restore, "phase");
  if (phase != "failed" && phase != "ended") return {};
  return make_error(Code::unavailable, "the restore onto '" + text_of(restore, "name") + "' " + phase + ": " +
                                           text_of(restore, "reason", "QEMU has ended"));
}

ckpt::Status follow_restores(const Context& context, const std::string& machine) {
  CKPT_ASSIGN(Json answer, await_restores(context, machine));
  const Json& restores = array_of(answer, "restores");
  ckpt::Status status = machine.empty() ? ckpt::Status() : restore_succeeded(restores[0]);
  if (context.json)
    context.print_json(answer, status);
  else
    for (const Json& restore : restores) std::cout << restore_line(restore) << "\n";
  return status;
}

ckpt::Status run_verify(const Context& context, const Target& target) {
  auto begun_ms = monotonic_ms();
  auto progress = [&](const Json& answer) {
    const Json state = member_of(answer, "progress");
    auto total = number_of(state, "total_bytes");
    if (total > 0 && monotonic_ms() - begun_ms > 1000)
      show_progress("verifying: " + std::to_string(number_of(state, "done_bytes") * 100 / total) + " % of " +
                    format_size(total));
    return true;
  };
  auto checked = context.request({{"verb", "verify"}, {"machine", target.machine}, {"point", target.point}}, progress);
  end_progress();
  if (!checked.ok()) return checked.error();
  const Json& damage = array_of(*checked, "damage");
  ckpt::Status status;
  if (!damage.empty())
    status = make_error(Code::corrupt, std::to_string(damage.size()) +
                                           " damaged places: do not restore the checkpoints that reach them");
  if (context.json) {
    context.print_json(*checked, status);
    return status;
  }
  for (const Json& item : damage) {
    std::vector<std::string> reached;
    for (const Json& id : array_of(item, "checkpoints"))
      if (id.is_string()) reached.push_back(id.get<std::string>());
    std::cout << text_of(item, "place") << ": " << text_of(item, "reason") << " (reached by "
              << (reached.empty() ? "checkpoints that have been removed meanwhile" : join(reached, ", ")) << ")\n";
  }
  for (const Json& machine : array_of(*checked, "copied_anew"))
    if (machine.is_string())
      std::cout << machine.get<std::string>()
                << ": its next checkpoints would build upon damage; everything is copied anew\n";
  if (status.ok())
    std::cout << number_of(*checked, "checkpoints") << " checkpoints verified: every byte is what was written\n";
  return status;
}

}  // namespace ckptd
