// SPDX-License-Identifier: LGPL-2.1-or-later
#include <chrono>
#include <future>
#include <iostream>

#include "common/text.h"
#include "ctl/commands.h"
#include "ctl/domain.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

// libvirt waits for its hook, and that for ckptd, twice.
constexpr std::int64_t clone_limit_ms = 180'000;

// What is waited for, as ckptd sees it.
std::string waiting_text(const Context& context, const std::string& name) {
  auto answer = context.request({{"verb", "restores"}, {"machine", name}});
  const Json restores = answer.ok() ? answer->value("restores", Json::array()) : Json::array();
  return "waiting for libvirt to run " + name +
         (restores.empty() ? "" : ", its restore is " + text_of(restores[0], "phase"));
}

void print(const Json& answer, const std::vector<std::string>& macs) {
  const std::string name = text_of(answer, "domain"), state = text_of(answer, "state");
  std::cout << name << (state == "running" ? " runs" : " is paused") << ": a clone of " << text_of(answer, "source")
            << " of " << format_time(number_of(answer, "wall_clock_ns")) << "\n";
  if (flag_of(answer, "connected")) return;
  for (const auto& mac : macs)
    std::cout << "unplugged, as its guest has the original's addresses: 'virsh domif-setlink " << name << " " << mac
              << " up'\n";
}

}  // namespace

ckpt::Status clone_machine(const Context& context, const CloneOptions& options) {
  // First of all what every command says of its machine and its point; which one that is stays from here on.
  const std::string wanted = options.target.point.empty() ? "latest" : options.target.point;
  CKPT_ASSIGN(Json shown, context.request({{"verb", "show"}, {"machine", options.target.machine}, {"point", wanted}}));
  const std::string point = std::to_string(number_of(member_of(shown, "checkpoint"), "number"));
  CKPT_ASSIGN(Json hello, context.request({{"verb", "hello"}}));
  const std::string uri = text_of(hello, "libvirt");
  if (uri.empty())
    return make_error(Code::refused,
                      "ckptd follows no libvirt, which is to run the clone: start it with --libvirt qemu:///system; a "
                      "machine without libvirt has its copy by 'ckptctl restore NAME --as NEWNAME'");
  std::vector<std::string> arguments = {"--connect", uri, "--run-dir", text_of(hello, "run_dir"), "clone"};
  if (options.paused) arguments.push_back("--paused");
  if (options.transient) arguments.push_back("--transient");
  if (options.connected) arguments.push_back("--connected");
  arguments.insert(arguments.end(), {"--", options.target.machine, point, options.name});
  auto waiting = std::async(std::launch::async, [&] { return ask_bridge(arguments, clone_limit_ms); });
  {
    SlowProgress progress;
    while (waiting.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready)
      progress.show([&] { return waiting_text(context, options.name); });
  }
  CKPT_ASSIGN(Json answer, waiting.get());
  CKPT_ASSIGN(auto macs, string_array(answer, "macs"));
  if (context.json)
    context.print_json(answer);
  else
    print(answer, macs);
  return {};
}

}  // namespace ckptd
