// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Commands that change checkpoints, or how a machine is protected.
#include <iostream>

#include "common/policy.h"
#include "common/qmp.h"
#include "common/text.h"
#include "ctl/commands.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int qmp_limit_ms = 5'000;

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
  return text_of(checkpoint, "machine") + "@" + std::to_string(number_of(checkpoint, "number"));
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
  return policy;
}

ckpt::Status take_checkpoint(const Context& context, const std::string& machine, const std::string& name,
                             std::uint64_t timeout_s) {
  auto answer =
      context.request({{"verb", "checkpoint"}, {"machine", machine}, {"name", name}, {"timeout_s", timeout_s}});
  return say(context, answer, spoken(answer) + (name.empty() ? "" : " (" + name + ")") + " is durable");
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
  CKPT_ASSIGN(Json answer, context.request({{"verb", "protect"}, {"machine", machine}, {"policy", policy}}));
  std::string socket = text_of(answer, "socket");
  if (!qmp.empty()) {
    CKPT_ASSIGN(Qmp connection, Qmp::connect(qmp, qmp_limit_ms));
    CKPT_ASSIGN(Json added, connection.execute("object-add",
                                               {{"qom-type", "checkpoint-stream"}, {"id", "ckpt0"}, {"path", socket}}));
  }
  return say(context, answer,
             qmp.empty()
                 ? "waiting for " + machine + ": start its QEMU with -object checkpoint-stream,id=ckpt0,path=" + socket
                 : machine + " is protected");
}

ckpt::Status unprotect_machine(const Context& context, const std::string& machine) {
  return say(context, context.request({{"verb", "unprotect"}, {"machine", machine}}),
             machine + " is no longer protected; its checkpoints stay");
}

ckpt::Status set_machine(const Context& context, const std::string& machine,
                         const std::vector<std::string>& assignments) {
  PolicyOptions options;
  for (const auto& assignment : assignments) {
    auto equals = assignment.find('=');
    std::string key = assignment.substr(0, equals),
                value = equals == std::string::npos ? "" : assignment.substr(equals + 1);
    if (key == "interval" && !value.empty())
      options.interval = value;
    else if (key == "retention" && !value.empty())
      options.retention = value;
    else
      return make_error(Code::invalid, "'" + assignment + "' cannot be set: write interval=TIME or retention=RULES");
  }
  CKPT_ASSIGN(Json policy, policy_of(options));
  auto answer = context.request({{"verb", "set"}, {"machine", machine}, {"policy", policy}});
  return say(context, answer, machine + ": " + join(assignments, ", "));
}

ckpt::Status finish_restore(const Context& context, const std::string& machine) {
  return say(context, context.request({{"verb", "finish"}, {"machine", machine}}),
             "everything of " + machine + " is being fetched: see 'ckptctl progress " + machine + "'");
}

}  // namespace ckptd
