// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Commands that change checkpoints, or how a machine is protected.
#include <chrono>
#include <future>
#include <iostream>

#include "ckpt/store.h"
#include "common/policy.h"
#include "common/qemu_command.h"
#include "common/qmp.h"
#include "common/text.h"
#include "ctl/commands.h"
#include "ctl/domain.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

ckpt::Status say(const Context& context, const ckpt::Result<Json>& answer, const std::string& text) {
  if (!answer.ok()) return answer.error();
  if (context.json)
    context.print_json(*answer);
  else
    std::cout << text << "\n";
  return {};
}

std::string spoken(const ckpt::Result<Json>& answer) {
  if (!answer.ok()) return "";
  const Json checkpoint = answer->value("checkpoint", Json::object());
  return ckpt::to_string({text_of(checkpoint, "machine"), number_of(checkpoint, "number")});
}

// What ckptd says of the machine now; null when it does not know it.
Json machine_now(const Context& context, const std::string& machine) {
  auto answer = context.request({{"verb", "status"}, {"machine", machine}});
  const Json machines = answer.ok() ? member_of(*answer, "machines") : Json();
  return machines.is_array() && !machines.empty() ? machines[0] : Json();
}

std::string waiting_text(const Context& context, const std::string& machine) {
  Json now = machine_now(context, machine);
  std::string state = text_of(now, "state"), reason = text_of(now, "reason");
  return "waiting for a checkpoint of " + machine + (state.empty() ? "" : ", which is " + state) +
         (reason.empty() ? "" : ": " + reason);
}

// QEMU has refused: the machine is as it was.
ckpt::Error undo_protect(const Context& context, const std::string& machine, bool protected_before,
                         const ckpt::Error& error) {
  std::string end = "; '" + machine + "' was protected before and still is: it waits for its QEMU";
  if (!protected_before) {
    auto undone = context.request({{"verb", "unprotect"}, {"machine", machine}});
    end = undone.ok() ? "; '" + machine + "' is not protected"
                      : "; and '" + machine + "' stays protected: " + undone.error().message();
  }
  return make_error(error.code, error.message() + end);
}

ckpt::Status need_point(const Target& target) {
  if (target.point.empty())
    return make_error(Code::invalid, "which checkpoint? Write " + target.machine + "@POINT, for example " +
                                         target.machine + "@latest");
  return {};
}

}  // namespace

ckpt::Result<Json> policy_of(const PolicyOptions& options) {
  Json policy = Json::object();
  if (!options.interval.empty()) {
    CKPT_ASSIGN(policy["interval_ms"], parse_duration_ms(options.interval));
  }
  if (!options.retention.empty()) {
    CKPT_ASSIGN(policy["retention"], parse_retention(options.retention));
  }
  if (!options.consistent.empty()) {
    CKPT_ASSIGN(policy["consistent_ms"], parse_consistent_ms(options.consistent));
  }
  return policy;
}

ckpt::Status take_checkpoint(const Context& context, const std::string& machine, const std::string& name,
                             const std::string& timeout, bool consistent) {
  CKPT_ASSIGN(std::uint64_t timeout_ms, parse_duration_ms(timeout));
  Json request = {{"verb", "checkpoint"},
                  {"machine", machine},
                  {"name", name},
                  {"timeout_s", (timeout_ms + 999) / 1000},
                  {"consistent", consistent}};
  auto waiting = std::async(std::launch::async, [&] { return context.request(request); });
  SlowProgress progress;
  while (waiting.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready)
    progress.show([&] { return waiting_text(context, machine); });
  auto answer = waiting.get();
  return say(context, answer,
             spoken(answer) + (name.empty() ? "" : " (" + name + ")") + " is durable" +
                 (consistent ? ", application-consistent" : ""));
}

ckpt::Status name_checkpoint(const Context& context, const Target& target, const std::string& name) {
  CKPT_TRY(need_point(target));
  auto answer =
      context.request({{"verb", "name"}, {"machine", target.machine}, {"point", target.point}, {"name", name}});
  return say(context, answer, spoken(answer) + (name.empty() ? " has no name any more" : " is named " + name));
}

ckpt::Status pin_checkpoint(const Context& context, const Target& target, const std::string& holder, bool pinned) {
  CKPT_TRY(need_point(target));
  auto answer = context.request(
      {{"verb", pinned ? "pin" : "unpin"}, {"machine", target.machine}, {"point", target.point}, {"holder", holder}});
  return say(context, answer,
             spoken(answer) + (pinned ? " stays until it is unpinned" : " is no longer pinned by " + holder));
}

ckpt::Status remove_checkpoint(const Context& context, const Target& target) {
  CKPT_TRY(need_point(target));
  auto answer = context.request({{"verb", "remove"}, {"machine", target.machine}, {"point", target.point}});
  return say(context, answer, spoken(answer) + " is removed");
}

ckpt::Status forget_machine(const Context& context, const std::string& machine) {
  return say(context, context.request({{"verb", "forget"}, {"machine", machine}}),
             machine + " and all its checkpoints are removed");
}

ckpt::Status protect_machine(const Context& context, const std::string& machine, const PolicyOptions& options,
                             const std::string& qmp) {
  CKPT_ASSIGN(Json policy, policy_of(options));
  if (qmp.empty()) {
    CKPT_ASSIGN(auto domain, change_domain(context, "protect", machine, options));
    if (domain) return say(context, *domain, domain_text(*domain, "protected"));
  }
  // Whatever can go wrong before ckptd knows of the machine does so.
  std::optional<Qmp> connection;
  if (!qmp.empty()) {
    CKPT_ASSIGN(connection, Qmp::connect(qmp, Qmp::usual_limit_ms));
  }
  std::string state_before = text_of(machine_now(context, machine), "state", "not protected");
  CKPT_ASSIGN(Json answer, context.request({{"verb", "protect"}, {"machine", machine}, {"policy", policy}}));
  const Json object = stream_object(text_of(answer, "socket"));
  if (connection) {
    auto added = connection->execute("object-add", object);
    if (!added.ok()) return undo_protect(context, machine, state_before != "not protected", added.error());
  }
  return say(context, answer,
             qmp.empty() ? "waiting for " + machine + ": start its QEMU with -object " + object_option(object)
                         : machine + " is protected");
}

ckpt::Status unprotect_machine(const Context& context, const std::string& machine) {
  CKPT_ASSIGN(auto domain, change_domain(context, "unprotect", machine, {}));
  if (domain) return say(context, *domain, domain_text(*domain, "no longer protected"));
  return say(context, context.request({{"verb", "unprotect"}, {"machine", machine}}),
             machine + " is no longer protected; its checkpoints stay");
}

ckpt::Status set_machine(const Context& context, const std::string& machine, PolicyOptions options,
                         const std::vector<std::string>& assignments) {
  for (const auto& assignment : assignments) {
    auto equals = assignment.find('=');
    std::string key = assignment.substr(0, equals),
                value = equals == std::string::npos ? "" : assignment.substr(equals + 1);
    if (key == "interval" && !value.empty())
      options.interval = value;
    else if (key == "retention" && !value.empty())
      options.retention = value;
    else if (key == "consistent" && !value.empty())
      options.consistent = value;
    else
      return make_error(Code::invalid,
                        "'" + assignment + "' cannot be set: write interval=TIME, retention=RULES or consistent=TIME");
  }
  CKPT_ASSIGN(Json policy, policy_of(options));
  if (policy.empty())
    return make_error(Code::invalid,
                      "nothing to set: write --interval TIME, --retention RULES, --consistent TIME, or more of "
                      "them");
  auto answer = context.request({{"verb", "set"}, {"machine", machine}, {"policy", policy}});
  std::vector<std::string> said;
  if (!options.interval.empty()) said.push_back("interval " + options.interval);
  if (!options.retention.empty()) said.push_back("retention " + options.retention);
  if (!options.consistent.empty()) said.push_back("application-consistent points " + options.consistent);
  return say(context, answer, machine + ": " + join(said, ", "));
}

ckpt::Status finish_restore(const Context& context, const std::string& machine) {
  return say(context, context.request({{"verb", "finish"}, {"machine", machine}}),
             "everything of " + machine + " is being fetched: see 'ckptctl progress " + machine + "'");
}

}  // namespace ckptd
