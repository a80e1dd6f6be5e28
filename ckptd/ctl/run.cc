// SPDX-License-Identifier: LGPL-2.1-or-later
//
// `ckptctl run`: protects a plain QEMU and records what is needed to build the same machine again.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "common/process.h"
#include "common/qemu_command.h"
#include "ctl/commands.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int helper_limit_ms = 10'000;

ckpt::Result<std::string> version_of(const std::string& qemu) {
  CKPT_ASSIGN(std::string text, run_helper({qemu, "--version"}, helper_limit_ms));
  std::string first = text.substr(0, text.find('\n'));
  if (first.find("QEMU") == std::string::npos)
    return make_error(Code::invalid, qemu + " is not a QEMU: it calls itself '" + first.substr(0, 80) + "'");
  CKPT_ASSIGN(std::string types, run_helper({qemu, "-object", "help"}, helper_limit_ms));
  if (types.find("checkpoint-stream") == std::string::npos)
    return make_error(Code::refused,
                      qemu + " (" + first + ") has no checkpoint-stream object: use the QEMU that comes with ckpt");
  return first;
}

ckpt::Status check_disk(const QemuDisk& disk) {
  struct stat status;
  bool local = !disk.file.empty() && disk.file.find(':') == std::string::npos;
  if (local && ::stat(disk.file.c_str(), &status) != 0)
    return ckpt::system_error(errno, "disk " + disk.name + ": " + disk.file);
  return {};
}

}  // namespace

ckpt::Status run_machine(const Context& context, const std::string& machine, const PolicyOptions& options,
                         const std::vector<std::string>& qemu_argv) {
  CKPT_ASSIGN(QemuCommand command, QemuCommand::parse(qemu_argv));
  CKPT_ASSIGN(std::string qemu, find_program(qemu_argv[0]));
  CKPT_ASSIGN(std::string version, version_of(qemu));
  CKPT_ASSIGN(std::string cwd, absolute_path("."));
  Json disks = Json::array();
  for (const auto& disk : command.disks()) {
    CKPT_TRY(check_disk(disk));
    disks.push_back({{"name", disk.name}, {"file", disk.file}, {"format", disk.format}});
  }
  Json config = {{"version", 1}, {"argv", command.argv()},  {"cwd", cwd},
                 {"qemu", qemu}, {"qemu_version", version}, {"disks", disks}};
  CKPT_ASSIGN(Json policy, policy_of(options));
  CKPT_ASSIGN(Json answer,
              context.request({{"verb", "protect"}, {"machine", machine}, {"config", config}, {"policy", policy}}));

  std::string qmp = text_of(answer, "qmp");
  command.add("-object", object_option(stream_object(text_of(answer, "socket"))));
  command.add_qmp(qmp);
  ::unlink(qmp.c_str());
  // QEMU keeps this process.
  CKPT_TRY(write_pid_file(text_of(answer, "pid_file"), process_id(::getpid())));
  auto argv = command.argv();
  std::vector<char*> pointers;
  for (auto& word : argv) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  ::execv(qemu.c_str(), pointers.data());
  return ckpt::system_error(errno, "cannot start " + qemu);
}

}  // namespace ckptd
