// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ctl/restore.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <thread>

#include "common/clock.h"
#include "common/text.h"
#include "common/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int qmp_limit_ms = 60'000;
constexpr std::int64_t start_limit_ms = 60'000;
constexpr auto poll_interval = std::chrono::milliseconds(2);

// The last lines of a log, for an error.
std::string tail_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line.substr(0, 300));
    if (lines.size() > 4) lines.erase(lines.begin());
  }
  return join(lines, " | ");
}

}  // namespace

ckpt::Status restore_machine(const Context& context, const RestoreOptions& options) {
  return Restore(context, options).run();
}

ckpt::Status Restore::run() {
  CKPT_TRY(begin());
  auto built = build();
  if (!built.ok()) {
    give_up(built.error().context);
    return built;
  }
  return report();
}

void Restore::mark(const std::string& phase) { phases_.push_back({phase, monotonic_ms() - begun_ms_}); }

ckpt::Status Restore::begin() {
  begun_ms_ = monotonic_ms();
  state_.begun_ns = wall_clock_ns();
  std::string as = options_.as.empty() ? options_.target.machine : options_.as;
  CKPT_ASSIGN(begun_, context_.request({{"verb", "restore_begin"},
                                        {"machine", options_.target.machine},
                                        {"point", options_.target.point},
                                        {"as", as}}));
  number_ = number_of(begun_["checkpoint"], "number");
  directory_ = text_of(begun_, "directory");
  state_.name = as;
  state_.source = options_.target.machine + "@" + std::to_string(number_);
  state_.mode = options_.mode;
  state_.phase = "starting";
  state_.holder = text_of(begun_, "holder");
  state_.starter = process_id(::getpid());
  state_.qmp = text_of(begun_, "qmp");
  state_.agent_status = directory_ + "/agent.json";
  mark("pinned");
  return save();
}

ckpt::Status Restore::build() {
  CKPT_TRY(read_command());
  CKPT_TRY(place_disks());
  CKPT_TRY(start_agent());
  CKPT_TRY(start_servers());
  CKPT_TRY(save());
  mark("agent and disks");
  CKPT_TRY(start_qemu());
  CKPT_TRY(connect_qemu());
  mark("QEMU is up");
  CKPT_TRY(check_qemu());
  CKPT_TRY(load_devices());
  mark("device state");
  CKPT_TRY(let_run());
  mark("guest runs");
  state_.phase = "running";
  state_.running_ns = wall_clock_ns();
  CKPT_TRY(save());
  // A gratuitous ARP a few times: switches learn where the address is now.
  (void)qmp_->execute("announce-self", {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 50}});
  qmp_.reset();
  if (options_.clock == "now") set_guest_clock();
  return {};
}

ckpt::Status Restore::read_command() {
  const Json config = begun_.value("config", Json::object());
  std::vector<std::string> argv = options_.qemu_argv;
  if (argv.empty()) {
    CKPT_ASSIGN(argv, string_array(config, "argv"));
  }
  if (argv.empty())
    return make_error(
        Code::refused,
        state_.source +
            " does not hold the machine's command line (it was not started by 'ckptctl run'): give it after '--'");
  qemu_ = !options_.qemu.empty()       ? options_.qemu
          : options_.qemu_argv.empty() ? text_of(config, "qemu", argv[0])
                                       : argv[0];
  CKPT_ASSIGN(qemu_, find_program(qemu_));
  cwd_ = options_.qemu_argv.empty() ? text_of(config, "cwd") : "";
  argv[0] = qemu_;
  CKPT_ASSIGN(command_, QemuCommand::parse(argv));
  return {};
}

ckpt::Status Restore::place_disks() {
  for (const Json& object : begun_.value("objects", Json::array())) {
    if (text_of(object, "class") != "disk") continue;
    std::string name = text_of(object, "name");
    const QemuDisk* disk = nullptr;
    for (const auto& candidate : command_->disks())
      if (candidate.name == name) disk = &candidate;
    if (!disk)
      return make_error(Code::refused,
                        state_.source + " has a disk '" + name +
                            "' that the command line lacks: give the machine's full command line after '--'");
    CKPT_TRY(make_overlay(*disk, number_of(object, "size_bytes")));
  }
  for (const auto& disk : command_->disks()) {
    bool placed = disk.read_only;
    for (const auto& restored : state_.disks) placed = placed || restored.name == disk.name;
    if (!placed && !options_.force)
      return make_error(Code::refused,
                        "the command line has a disk '" + disk.name + "' that " + state_.source +
                            " lacks: its content would not belong to the machine; --force attaches it as it is");
    if (!placed) has_foreign_disk_ = true;
  }
  for (const auto& disk : state_.disks) CKPT_TRY(command_->replace_disk(disk.name, disk.overlay));
  return {};
}

ckpt::Status Restore::make_overlay(const QemuDisk& disk, std::uint64_t size_bytes) {
  std::string directory = options_.disk_dir;
  if (directory.empty()) {
    auto slash = disk.file.rfind('/');
    bool plain = !disk.file.empty() && disk.file.find(':') == std::string::npos;
    if (!plain)
      return make_error(Code::invalid, "disk '" + disk.name + "' was at '" + disk.file +
                                           "': say with --disk-dir where its new image goes");
    directory = slash == std::string::npos ? "." : slash == 0 ? "/" : disk.file.substr(0, slash);
    if (directory[0] != '/') directory = cwd_ + "/" + directory;
  }
  auto found = absolute_path(directory);
  if (!found.ok())
    return make_error(found.error().code, "directory for disk '" + disk.name + "': " + found.error().message() +
                                              ": choose another with --disk-dir");
  std::string file_name = state_.name + "." + disk.name + "." + std::to_string(number_) + ".qcow2";
  for (char& c : file_name)
    if (c == '/' || c == ',') c = '_';
  RestoredDisk restored;
  restored.name = disk.name;
  restored.overlay = *found + "/" + file_name;
  if (::access(restored.overlay.c_str(), F_OK) == 0) {
    if (!options_.replace)
      return make_error(Code::exists, restored.overlay +
                                          " is there already (an earlier restore of this point?): --replace moves it "
                                          "aside, or choose another --disk-dir");
    std::string aside = restored.overlay + ".old-" + std::to_string(wall_clock_ns() / 1'000'000);
    if (::rename(restored.overlay.c_str(), aside.c_str()) != 0) return ckpt::system_error(errno, aside);
    std::cerr << "ckptctl: " << restored.overlay << " is now " << aside << "\n";
  }
  std::string socket = directory_ + "/disk-" + std::to_string(state_.disks.size()) + ".sock";
  // open-timeout: nbdkit and QEMU start side by side. reconnect-delay: when nbdkit dies the guest waits for the next
  // one.
  Json backing = {{"driver", "raw"},
                  {"file",
                   {{"driver", "nbd"},
                    {"server", {{"type", "unix"}, {"path", socket}}},
                    {"open-timeout", 30},
                    {"reconnect-delay", 31'536'000}}}};
  std::string qemu_img = qemu_.substr(0, qemu_.rfind('/')) + "/qemu-img";
  if (::access(qemu_img.c_str(), X_OK) != 0) qemu_img = "qemu-img";
  CKPT_ASSIGN(auto output, run_helper({qemu_img, "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b",
                                       "json:" + dump(backing), restored.overlay, std::to_string(size_bytes)},
                                      10'000));
  made_files_.push_back(restored.overlay);
  CKPT_ASSIGN(std::string plugin, find_nbdkit_plugin());
  restored.server_argv = {"nbdkit",
                          "-f",
                          "-r",
                          "-U",
                          socket,
                          plugin,
                          "store=" + text_of(begun_, "store"),
                          "checkpoint=" + state_.source,
                          "disk=" + disk.name};
  state_.disks.push_back(std::move(restored));
  return {};
}

ckpt::Status Restore::start_agent() {
  CKPT_ASSIGN(std::string agent, find_restore_agent());
  state_.agent_argv = {agent,
                       "--store",
                       text_of(begun_, "store"),
                       "--checkpoint",
                       state_.source,
                       "--socket",
                       directory_ + "/agent.sock",
                       "--status",
                       state_.agent_status,
                       "--mode",
                       options_.mode,
                       "--working-set",
                       text_of(begun_, "working_set")};
  if (!options_.bandwidth.empty()) {
    CKPT_ASSIGN(auto bytes, parse_size(options_.bandwidth));
    state_.agent_argv.insert(state_.agent_argv.end(), {"--bandwidth", std::to_string(bytes)});
  }
  CKPT_ASSIGN(state_.agent,
              spawn_detached(state_.agent_argv, {.directory = "/", .log_path = state_.log_path(directory_)}));
  return {};
}

ckpt::Status Restore::start_servers() {
  for (std::size_t i = 0; i < state_.disks.size(); ++i) {
    ::unlink((directory_ + "/disk-" + std::to_string(i) + ".sock").c_str());
    CKPT_ASSIGN(state_.disks[i].server, spawn_detached(state_.disks[i].server_argv,
                                                       {.directory = "/", .log_path = state_.log_path(directory_)}));
  }
  return {};
}

ckpt::Status Restore::start_qemu() {
  if (!options_.as.empty() && options_.as != options_.target.machine) command_->renew_generation_id();
  command_->remove_flag("-S");
  command_->add("-S");
  command_->add("-incoming", "defer");
  command_->add("-object", "checkpoint-restore,id=restore0,path=" + directory_ + "/agent.sock");
  // With a disk that the checkpoint lacks, the checkpoint is no base: the store has nothing of that disk, and
  // everything is copied anew.
  std::string base = has_foreign_disk_ ? "" : ",base=" + text_of(begun_, "base");
  command_->add("-object", "checkpoint-stream,id=ckpt0,path=" + text_of(begun_, "socket") + base);
  command_->add("-qmp", "unix:" + state_.qmp + ",server=on,wait=off");
  ::unlink(state_.qmp.c_str());
  SpawnOptions spawn{.directory = cwd_,
                     .log_path = options_.foreground ? "" : state_.log_path(directory_),
                     .keep_input = options_.foreground};
  CKPT_ASSIGN(state_.qemu, spawn_detached(command_->argv(), spawn));
  CKPT_TRY(write_pid_file(text_of(begun_, "pid_file"), state_.qemu));
  return save();
}

ckpt::Error Restore::died(const std::string& what) const {
  return make_error(Code::unavailable, what + "; its last words: " + tail_of(state_.log_path(directory_)));
}

ckpt::Status Restore::connect_qemu() {
  std::int64_t deadline_ms = monotonic_ms() + start_limit_ms;
  for (;;) {
    if (!alive(state_.qemu)) return died("QEMU ended before the machine was there");
    auto connected = Qmp::connect(state_.qmp, qmp_limit_ms);
    if (connected.ok()) {
      qmp_ = connected.take();
      return {};
    }
    if (!alive(state_.agent)) return died("restore-agent ended before the machine was there");
    if (monotonic_ms() > deadline_ms) return died("QEMU does not answer within a minute");
    std::this_thread::sleep_for(poll_interval);
  }
}

// Loading the devices of another QEMU or machine type may go wrong in silence; QEMU itself is asked what it is.
ckpt::Status Restore::check_qemu() {
  const Json epoch = begun_.value("epoch", Json::object());
  CKPT_ASSIGN(Json version, qmp_->execute("query-version"));
  CKPT_ASSIGN(Json type, qmp_->execute("qom-get", {{"path", "/machine"}, {"property", "type"}}));
  const Json numbers = version.value("qemu", Json::object());
  std::string now = std::to_string(number_of(numbers, "major")) + "." + std::to_string(number_of(numbers, "minor")) +
                    "." + std::to_string(number_of(numbers, "micro"));
  std::string then = text_of(epoch, "qemu_version");
  std::string machine_now = type.is_string() ? type.get<std::string>() : "",
              machine_then = text_of(epoch, "machine_type");
  if (machine_now.ends_with("-machine")) machine_now.resize(machine_now.size() - 8);
  if (!machine_then.empty() && machine_now != machine_then)
    return make_error(Code::refused, state_.source + " is of machine type " + machine_then + ", this QEMU builds " +
                                         machine_now + ": name the type in full on the command line (-machine " +
                                         machine_then + ")");
  if (!options_.force && !then.empty() && !then.starts_with(now))
    return make_error(Code::refused, state_.source + " was captured by QEMU " + then + ", this one is " + now +
                                         ": use that QEMU with --qemu, or --force");
  return {};
}

ckpt::Status Restore::load_devices() {
  CKPT_ASSIGN(Json begun, qmp_->execute("migrate-incoming", {{"uri", "file:" + directory_ + "/device-state"}}));
  for (;;) {
    auto progress = qmp_->execute("query-migrate");
    if (!progress.ok()) {
      if (!alive(state_.qemu))
        return died("QEMU ended while it loaded the device state: the command line may not fit the checkpoint");
      return progress.error();
    }
    std::string status = text_of(*progress, "status");
    if (status == "completed") return {};
    if (status == "failed")
      return died("QEMU cannot load the device state (" + text_of(*progress, "error-desc", "no reason given") +
                  "): the command line does not fit the checkpoint");
    std::this_thread::sleep_for(poll_interval);
  }
}

ckpt::Status Restore::let_run() {
  // A machine that was paused stays so, and its disks would stay inactive with it: they could not be streamed in.
  bool paused = text_of(begun_["epoch"], "run_state") != "running";
  auto running = paused ? qmp_->execute("blockdev-set-active", {{"active", true}}) : qmp_->execute("cont");
  if (!running.ok()) return running.error();
  return {};
}

void Restore::set_guest_clock() {
  auto socket = command_->guest_agent_socket();
  auto fd = socket ? connect_unix(*socket)
                   : ckpt::Result<Fd>(make_error(Code::not_found, "the machine has no guest agent channel"));
  if (fd.ok()) {
    LineChannel channel(fd.take(), json_line_limit_bytes);
    if (channel.write_line(R"({"execute":"guest-set-time"})").ok() && channel.read_line(5000).ok()) return;
  }
  std::cerr
      << "ckptctl: the guest's clock goes on from " << format_time(number_of(begun_["epoch"], "wall_clock_ns"))
      << ": there is no guest agent to set it; its hardware clock has the right time, its NTP client will follow\n";
}

void Restore::give_up(const std::string& reason) {
  qmp_.reset();
  terminate(state_.qemu, SIGKILL);
  terminate(state_.agent, SIGTERM);
  for (const auto& disk : state_.disks) terminate(disk.server, SIGTERM);
  // Its disk images and its name are free only when it has gone.
  for (int i = 0; i < 500 && alive(state_.qemu); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  for (const auto& file : made_files_) ::unlink(file.c_str());
  state_.phase = "failed";
  state_.reason = reason;
  (void)save();
  (void)context_.request(
      {{"verb", "restore_abandon"}, {"machine", options_.target.machine}, {"number", number_}, {"as", state_.name}});
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
                         {"ttr_ms", (state_.running_ns - state_.begun_ns) / 1'000'000},
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
