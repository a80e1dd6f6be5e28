// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ctl/restore.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <thread>

#include "ckpt/store.h"
#include "common/agent_control.h"
#include "common/clock.h"
#include "common/guest_agent.h"
#include "common/probe_target.h"
#include "common/restore_parts.h"
#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int qmp_limit_ms = 60'000;
constexpr std::int64_t start_limit_ms = 60'000;
constexpr auto poll_interval = std::chrono::milliseconds(2);
constexpr auto fetch_look = std::chrono::milliseconds(20);
constexpr int guest_agent_limit_ms = 10'000;

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
  if (!built.ok() && state_.phase != "running") {
    give_up(built.error().message());
    return built;
  }
  return report(built);
}

void Restore::mark(const std::string& phase) { phases_.push_back({phase, monotonic_ms() - begun_ms_}); }

ckpt::Status Restore::begin() {
  if (options_.wait && options_.mode == "lazy")
    return make_error(Code::invalid,
                      "--wait does not end with --mode lazy, which fetches only what the guest touches: leave one out; "
                      "'ckptctl finish NAME' fetches the rest later");
  for (const auto& text : options_.probes)
    if (auto probe = parse_probe(text); !probe.ok()) return probe.error();
  CKPT_ASSIGN(state_.probe_timeout_ms, parse_duration_ms(options_.probe_timeout));
  state_.probes = options_.probes;
  begun_ms_ = monotonic_ms();
  state_.begun_ns = wall_clock_ns();
  std::string as = options_.as.empty() ? options_.target.machine : options_.as;
  CKPT_ASSIGN(begun_, context_.request({{"verb", "restore_begin"},
                                        {"machine", options_.target.machine},
                                        {"point", options_.target.point},
                                        {"as", as},
                                        {"mode", options_.mode}}));
  token_ = text_of(begun_, "token");
  number_ = number_of(begun_["checkpoint"], "number");
  directory_ = text_of(begun_, "directory");
  state_.name = as;
  state_.source = ckpt::to_string({options_.target.machine, number_});
  state_.mode = options_.mode;
  state_.phase = "starting";
  state_.holder = text_of(begun_, "holder");
  state_.qmp = text_of(begun_, "qmp");
  state_.agent_status = directory_ + "/agent.json";
  mark("pinned");
  return {};
}

ckpt::Status Restore::save() {
  auto told = context_.request({{"verb", "restore_update"}, {"token", token_}, {"state", to_json(state_)}});
  if (!told.ok()) return told.error();
  return {};
}

ckpt::Status Restore::build() {
  CKPT_TRY(read_command());
  CKPT_TRY(place_disks());
  CKPT_TRY(start_agent());
  CKPT_TRY(start_servers());
  CKPT_TRY(start_probe());
  mark("agent and disks");
  if (options_.mode == "full") CKPT_TRY(fetch_disks());
  CKPT_TRY(start_qemu());
  CKPT_TRY(connect_qemu());
  mark("QEMU is up");
  CKPT_TRY(check_qemu());
  if (options_.mode == "full") CKPT_TRY(fetch_memory());
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
  return wait_for_answers();
}

ckpt::Status Restore::read_command() {
  const Json config = member_of(begun_, "config");
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

// What ckptd knows of is ended when this process dies, so it is told before there is anything to end.
ckpt::Status Restore::start(const std::vector<std::string>& argv, SpawnOptions options, ProcessId& process) {
  options.record = [&](const ProcessId& started) {
    process = started;
    return save();
  };
  auto started = spawn_detached(argv, options);
  if (!started.ok()) return started.error();
  return {};
}

ckpt::Status Restore::start_agent() {
  if (!options_.bandwidth.empty()) {
    CKPT_ASSIGN(state_.bandwidth_bytes_s, parse_size(options_.bandwidth));
  }
  CKPT_ASSIGN(state_.agent_argv, agent_command(state_, begun_));
  // Of an earlier restore, which this agent does not go on from.
  ::unlink(state_.agent_status.c_str());
  return start(state_.agent_argv, {.directory = "/", .log_path = state_.log_path(directory_)}, state_.agent);
}

ckpt::Status Restore::start_servers() {
  for (std::size_t i = 0; i < state_.disks.size(); ++i) {
    // QEMU, which starts beside it, tries a second time only after a second.
    SpawnOptions options{.directory = "/", .log_path = state_.log_path(directory_), .listen_path = server_socket(i)};
    CKPT_TRY(start(state_.disks[i].server_argv, std::move(options), state_.disks[i].server));
  }
  return {};
}

ckpt::Status Restore::start_probe() {
  if (state_.probes.empty()) return {};
  CKPT_ASSIGN(std::string probe, find_restore_probe());
  // In our directory, which a command may mean; it waits until the guest runs.
  CKPT_ASSIGN(probe_, spawn_detached({probe, directory_}, {.log_path = state_.log_path(directory_)}));
  return {};
}

ckpt::Status Restore::start_qemu() {
  // Its past comes back, be it under its own name or another: doc/consistency.md.
  command_->renew_generation_id();
  command_->remove_flag("-S");
  command_->add("-S");
  command_->add("-incoming", "defer");
  command_->add("-object", object_option(restore_object(directory_ + "/agent.sock")));
  // With a disk that the checkpoint lacks, the checkpoint is no base: the store has nothing of that disk, and
  // everything is copied anew.
  std::string base = has_foreign_disk_ ? "" : text_of(begun_, "base");
  command_->add("-object", object_option(stream_object(text_of(begun_, "socket"), base)));
  command_->add_qmp(state_.qmp);
  ::unlink(state_.qmp.c_str());
  SpawnOptions spawn{.directory = cwd_,
                     .log_path = options_.foreground ? "" : state_.log_path(directory_),
                     .keep_input = options_.foreground};
  CKPT_TRY(start(command_->argv(), std::move(spawn), state_.qemu));
  return write_pid_file(text_of(begun_, "pid_file"), state_.qemu);
}

ckpt::Error Restore::died(const std::string& what) const {
  return make_error(Code::unavailable, what + "; its last words: " + tail_of(state_.log_path(directory_)));
}

ckpt::Status Restore::connect_qemu() {
  std::int64_t deadline_ms = monotonic_ms() + start_limit_ms;
  SlowProgress progress;
  for (;;) {
    if (!alive(state_.qemu)) return died("QEMU ended before the machine was there");
    auto connected = Qmp::connect(state_.qmp, qmp_limit_ms);
    if (connected.ok()) {
      qmp_ = connected.take();
      return {};
    }
    if (!alive(state_.agent)) return died("restore-agent ended before the machine was there");
    // QEMU waits long for it, and then says only that it waited.
    for (const auto& disk : state_.disks)
      if (!disk.local && !alive(disk.server))
        return died("nbdkit of disk '" + disk.name + "' ended before the machine was there");
    if (monotonic_ms() > deadline_ms) return died("QEMU does not answer within a minute");
    progress.show([&] { return "waiting for QEMU: " + connected.error().message(); });
    std::this_thread::sleep_for(poll_interval);
  }
}

// Loading the devices of another QEMU or machine type may go wrong in silence; QEMU itself is asked what it is.
ckpt::Status Restore::check_qemu() {
  const Json epoch = member_of(begun_, "epoch");
  CKPT_ASSIGN(Json version, qmp_->execute("query-version"));
  CKPT_ASSIGN(Json type, qmp_->execute("qom-get", {{"path", "/machine"}, {"property", "type"}}));
  const Json numbers = member_of(version, "qemu");
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
  if (!options_.force && !then.empty() && version_numbers(then) != now)
    return make_error(Code::refused, state_.source + " was captured by QEMU " + then + ", this one is " + now +
                                         ": use that QEMU with --qemu, or --force");
  return {};
}

ckpt::Status Restore::fetch_memory() {
  std::int64_t begun_ms = monotonic_ms();
  for (;; std::this_thread::sleep_for(fetch_look)) {
    auto status = read_json_file(state_.agent_status);
    const Json agent = status.ok() ? status.take() : Json::object();
    if (text_of(agent, "state") == "done") break;
    if (!alive(state_.qemu)) return died("QEMU ended while its memory was fetched");
    if (!alive(state_.agent)) return died("restore-agent ended while memory was fetched: restore again");
    std::uint64_t total = number_of(agent, "pages_total");
    if (total == 0 || monotonic_ms() - begun_ms < 1000) continue;
    std::uint64_t there = number_of(agent, "pages_present") + number_of(agent, "pages_zero");
    std::string reason = text_of(agent, "reason");
    show_progress("memory: " + std::to_string(std::min(there, total) * 100 / total) + " % of " +
                  format_size(total * ckpt::page_size_bytes) + (reason.empty() ? "" : ", waits: " + reason));
  }
  end_progress();
  mark("memory");
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
    if (status == "completed") {
      ::unlink((directory_ + "/device-state").c_str());
      return {};
    }
    if (status == "failed")
      return died("QEMU cannot load the device state (" + text_of(*progress, "error-desc", "no reason given") +
                  "): the command line does not fit the checkpoint");
    std::this_thread::sleep_for(poll_interval);
  }
}

ckpt::Status Restore::let_run() {
  // A machine that was paused stays so, and its disks would stay inactive with it: they could not be streamed in.
  bool paused = text_of(begun_["epoch"], "run_state") != "running";
  if (!paused) name_vcpus();
  // From here on nobody but QEMU knows whether the guest runs; ckptd asks it before it takes the machine for lost.
  state_.phase = "resuming";
  CKPT_TRY(save());
  auto running = paused ? qmp_->execute("blockdev-set-active", {{"active", true}}) : qmp_->execute("cont");
  if (!running.ok()) return running.error();
  return {};
}

// From now on the agent counts who waits: the restore's service level.
void Restore::name_vcpus() {
  auto cpus = qmp_->execute("query-cpus-fast");
  std::vector<std::string> threads;
  for (const Json& cpu : cpus.ok() && cpus->is_array() ? *cpus : Json::array())
    threads.push_back(std::to_string(number_of(cpu, "thread-id")));
  // An agent that has left, or dies just now, costs only the figure.
  (void)tell_agent(state_, "vcpus " + join(threads, ","));
}

void Restore::set_guest_clock() {
  auto set = ask_guest_agent();
  clock_set_ = set.ok();
  if (clock_set_) return;
  std::cerr << "ckptctl: the guest's clock goes on from " << format_time(number_of(begun_["epoch"], "wall_clock_ns"))
            << ": " << set.error().message() << "; its hardware clock has the right time, its NTP client will follow\n";
}

ckpt::Status Restore::ask_guest_agent() {
  auto path = command_->guest_agent_socket();
  if (!path) return make_error(Code::not_found, "the machine has no guest agent channel");
  // A frozen guest's agent sets no clock.
  const std::int64_t deadline_ms = monotonic_ms() + guest_agent_limit_ms;
  while (flag_of(member_of(begun_, "checkpoint"), "frozen") && is_frozen()) {
    if (monotonic_ms() > deadline_ms) return make_error(Code::unavailable, "the guest is still frozen");
    std::this_thread::sleep_for(fetch_look);
  }
  CKPT_ASSIGN(auto agent, GuestAgent::connect(*path, guest_agent_limit_ms));
  // Without a time: from the hardware clock, which is the host's.
  CKPT_ASSIGN([[maybe_unused]] Json set, agent.execute("guest-set-time", guest_agent_limit_ms));
  return {};
}

bool Restore::is_frozen() {
  auto status = context_.request({{"verb", "status"}, {"machine", state_.name}});
  const Json machines = status.ok() ? member_of(*status, "machines") : Json();
  return machines.is_array() && !machines.empty() && !member_of(machines[0], "frozen").is_null();
}

void Restore::give_up(const std::string& reason) {
  qmp_.reset();
  terminate(state_.qemu, SIGKILL);
  terminate(state_.agent, SIGTERM);
  for (const auto& disk : state_.disks) terminate(disk.server, SIGTERM);
  // Its disk images and its name are free only when it has gone.
  for (int i = 0; i < 500 && alive(state_.qemu); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  for (const auto& file : made_files_) ::unlink(file.c_str());
  // Should ckptd be away, it does the same once it is back and this process is gone.
  (void)context_.request({{"verb", "restore_abandon"}, {"as", state_.name}, {"token", token_}, {"reason", reason}});
}

}  // namespace ckptd
