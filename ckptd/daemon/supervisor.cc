// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>

#include "common/agent_control.h"
#include "common/clock.h"
#include "common/text.h"
#include "daemon/block_jobs.h"
#include "daemon/bounded_log.h"
#include "daemon/domain_disks.h"
#include "daemon/log.h"
#include "daemon/restore_words.h"
#include "daemon/restored_base.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int step_interval_ms = 100;
constexpr std::int64_t talk_interval_ms = 500, libvirt_talk_interval_ms = 2'000;
// While there is no agent the guest stands still at its first fault: a death or a few are made good at once. What dies
// again and again must not take the host's time.
constexpr unsigned restarts_at_once = 5;
constexpr std::int64_t backoff_ms = 250, backoff_largest_ms = 1'000;
constexpr std::int64_t grown_up_ms = 10'000;
constexpr std::size_t log_limit_bytes = 1 << 20;

// The two service levels between the guest's start and BTN; null where nothing is known yet.
Json service_json(const Json& agent, const Json& probe) {
  return {{"vcpu_percent", member_of(member_of(agent, "service"), "level_percent")},
          {"answers_percent", member_of(probe, "level_percent")}};
}

Json restore_json(const RestoreState& state, const std::string& directory) {
  Json disks = Json::array();
  for (const auto& disk : state.disks)
    disks.push_back(
        {{"name", disk.name}, {"overlay", disk.overlay}, {"local", disk.local}, {"streaming", disk.streaming}});
  auto since_begin_ms = [&](std::uint64_t instant_ns) {
    return instant_ns > state.begun_ns ? Json((instant_ns - state.begun_ns) / 1'000'000) : Json();
  };
  Json agent = read_agent_status(state);
  auto probe = read_json_file(directory + "/probe.json");
  const Json found = probe.ok() ? *probe : Json::object();
  return {{"name", state.name},
          {"source", state.source},
          {"mode", state.mode},
          {"phase", state.phase},
          {"reason", state.reason},
          {"service", service_json(agent, found)},
          {"probe", found},
          {"agent", std::move(agent)},
          {"agent_pid", state.agent.pid},
          {"agent_restarts", state.agent_restarts},
          {"qemu_pid", state.qemu.pid},
          {"running_ms", since_begin_ms(state.running_ns)},
          {"ttr_ms", member_of(found, "ttr_ms")},
          {"btn_ms", since_begin_ms(state.local_ns)},
          {"begun_ns", state.begun_ns},
          {"disks", disks}};
}

// Once for each cause.
void complain(std::string& last, const std::string& about, const ckpt::Status& status) {
  std::string now = status.ok() ? "" : status.error().message();
  if (last != now && !now.empty()) log_line(about + ": " + now);
  last = now;
}

}  // namespace

bool under_way(const RestoreState& state) {
  return state.phase == "starting" || state.phase == "resuming" || state.phase == "running" ||
         state.phase == "streaming";
}

Json read_agent_status(const RestoreState& state) {
  if (state.agent_status.empty()) return Json::object();
  auto status = read_json_file(state.agent_status);
  return status.ok() ? *status : Json::object();
}

Supervisor::Supervisor(Daemon& daemon) : daemon_(daemon) {
  load();
  drop_orphaned_pins();
  thread_ = std::thread([this] { run(); });
}

Supervisor::~Supervisor() { thread_.join(); }

void Supervisor::run() {
  while (!daemon_.stopping()) {
    watched_.clear();
    for (const auto& name : names()) step(name);
    wait_for_a_death(step_interval_ms);
  }
}

void Supervisor::watch(const ProcessId& process) {
  if (alive(process)) watched_.push_back(process);
}

void Supervisor::wait_for_a_death(int time_limit_ms) {
  std::vector<os::Fd> processes;
  std::vector<pollfd> entries;
  for (const auto& process : watched_) {
    processes.emplace_back(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
    // Without one it is looked for when the time is over.
    if (processes.back()) entries.push_back({processes.back().get(), POLLIN, 0});
  }
  ::poll(entries.data(), entries.size(), time_limit_ms);
}

std::vector<std::string> Supervisor::names() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, known] : restores_) names.push_back(name);
  return names;
}

void Supervisor::step(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto it = restores_.find(name);
  if (it == restores_.end() || it->second.preparing) return;
  Known& known = it->second;
  const RestoreState& state = known.state;
  if (tend(known.state)) known.saved = false;
  if (!known.saved) (void)save(known);
  // What its guest says on the console may be there too, and goes on when all is local.
  if (under_way(state) || state.phase == "local")
    complain(known.log_complaint, name + ": its restore's log",
             bound_log(state.log_path(directory_of(state)), log_limit_bytes));
}

ckpt::Status Supervisor::save(Known& known) {
  auto saved = save_restore(directory_of(known.state), known.state);
  known.saved = saved.ok();
  complain(known.save_complaint, known.state.name + ": its restore's state is not saved", saved);
  return saved;
}

// True when the state has changed.
bool Supervisor::tend(RestoreState& state) {
  if (state.phase == "starting" || state.phase == "resuming") return tend_start(state);
  if (state.phase == "local" && !runs(state)) {
    state.phase = "ended";
    return true;
  }
  if (!under_way(state)) return false;
  bool changed = state.is_domains() && tend_domain(state);
  if (!runs(state)) {
    close(state, "ended", "QEMU ended before all was local");
    return true;
  }
  Json agent = read_agent_status(state);
  changed |= tend_memory(state, agent);
  bool done = state.memory_local || text_of(agent, "state") == "done";
  changed |= tend_agent(state, done);
  changed |= tend_servers(state);
  if (!done) watch(state.agent);
  for (const auto& disk : state.disks) watch(disk.server);
  if (!done) return changed;
  if (state.phase == "running" && all_local(state)) return true;
  if (state.phase == "running" && state.mode == "lazy") return changed;
  return tend_disks(state) || changed;
}

bool Supervisor::may_talk(const RestoreState& state) {
  auto& next_ms = next_talk_ms_[state.name];
  if (monotonic_ms() < next_ms) return false;
  next_ms = monotonic_ms() + (state.is_domains() ? libvirt_talk_interval_ms : talk_interval_ms);
  return true;
}

template <typename Answer>
std::optional<ckpt::Result<Answer>> Supervisor::ask(Talks<Answer>& talks, const RestoreState& state,
                                                    Question<Answer> question) {
  auto talk = talks.find(state.name);
  if (talk == talks.end()) {
    if (!may_talk(state)) return {};
    try {
      talks[state.name] = {state.begun_ns, std::async(std::launch::async, question, state, daemon_.stop_fd())};
    } catch (const std::system_error& error) {
      talks.erase(state.name);  // no thread can be started: asked again later
      log_line(state.name + ": its QEMU cannot be asked: " + error.code().message());
    }
    return {};
  }
  if (talk->second.answer.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return {};
  bool about_this = talk->second.begun_ns == state.begun_ns;
  auto answer = talk->second.answer.get();
  talks.erase(talk);
  if (!about_this) return {};
  return answer;
}

// While its starter lives, a restore's beginning is the starter's.
bool Supervisor::tend_start(RestoreState& state) {
  if (state.is_domains()) return tend_domain_start(state);
  if (alive(state.starter)) return false;
  if (state.phase == "resuming" && alive(state.qemu)) {
    // It was about to let the guest run. A QEMU that does not say is asked again: it may well.
    auto runs = ask(word_talks_, state, guest_has_run);
    if (!runs || !runs->ok()) return false;
    if (**runs) {
      state.phase = "running";
      state.former = Json();
      state.running_ns = wall_clock_ns();
      log_line(state.name + ": ckptctl ended, but the guest runs");
      return true;
    }
  }
  close(state, "failed", "ckptctl ended before the guest ran");
  return true;
}

// The agent may end before it has written that it is done; the next one would wait for ever for a QEMU that needs none.
bool Supervisor::tend_memory(RestoreState& state, const Json& agent) {
  bool serving = text_of(agent, "state") == "restoring" && alive(state.agent) &&
                 number_of(agent, "pid") == static_cast<std::uint64_t>(state.agent.pid);
  // libvirt's QEMU has no monitor for us: there an agent that cannot say it stays.
  if (state.memory_local || serving || text_of(agent, "state") == "done" || state.is_domains()) return false;
  auto local = ask(word_talks_, state, memory_is_local);
  if (!local || !local->ok() || !**local) return false;
  state.memory_local = true;
  terminate(state.agent, SIGTERM);
  log_line(state.name + ": memory is local, says QEMU; its agent could not");
  return true;
}

// The next ckptd must know of it, should this one end. But it is needed also when RUN_DIR is full: step() says so then,
// and tries again.
ckpt::Status Supervisor::start(const RestoreState& state, const std::vector<std::string>& argv, ProcessId& process,
                               const std::string& listen_path) {
  const bool server = !listen_path.empty();
  auto record = [&](const ProcessId& started) -> ckpt::Status {
    process = started;
    (void)save_restore(directory_of(state), state);
    return {};
  };
  auto started = spawn_detached(argv, {.directory = "/",
                                       .log_path = state.log_path(directory_of(state)),
                                       .listen_path = listen_path,
                                       .listen_for = state.user,
                                       .user = server ? std::nullopt : state.user,
                                       .record = record});
  if (!started.ok()) return started.error();
  return {};
}

bool Supervisor::tend_agent(RestoreState& state, bool done) {
  if (done || alive(state.agent) || !may_start("agent " + state.name)) return false;
  if (auto started = start(state, state.agent_argv, state.agent); !started.ok()) {
    log_line(state.name + ": restore-agent has died and cannot be started again: " + started.error().message());
    state.reason = started.error().message();
    return true;
  }
  log_line(state.name + ": restore-agent has died; a new one takes over as process " + std::to_string(state.agent.pid));
  ++state.agent_restarts;
  return true;
}

bool Supervisor::tend_servers(RestoreState& state) {
  bool changed = false;
  for (std::size_t i = 0; i < state.disks.size(); ++i) {
    RestoredDisk& disk = state.disks[i];
    if (disk.local || alive(disk.server) || !may_start("server " + state.name + " " + disk.name)) continue;
    changed = true;
    const std::string socket = state.server_socket(directory_of(state), i);
    if (auto started = start(state, disk.server_argv, disk.server, socket); !started.ok()) {
      log_line(state.name + ": nbdkit of disk " + disk.name + " cannot be started again: " + started.error().message());
      continue;
    }
    log_line(state.name + ": nbdkit of disk " + disk.name + " has died; a new one takes over as process " +
             std::to_string(disk.server.pid));
  }
  return changed;
}

bool Supervisor::all_local(RestoreState& state) {
  if (!std::all_of(state.disks.begin(), state.disks.end(), [](const RestoredDisk& disk) { return disk.local; }))
    return false;
  if (state.is_domains() && !state.defined) return false;
  state.phase = "local";
  state.reason.clear();
  state.local_ns = wall_clock_ns();
  unpin(state);
  log_line(state.name + ": all is local, " + format_duration_ms((state.local_ns - state.begun_ns) / 1'000'000) +
           " after the restore began");
  return true;
}

// Brings the disks home: starts what copies them, and looks how far it has come.
bool Supervisor::tend_disks(RestoreState& state) {
  auto disks = ask(disk_talks_, state,
                   state.is_domains()           ? pull_domain_disks
                   : state.phase == "streaming" ? check_block_streams
                                                : start_block_streams);
  return disks && take_disks(state, *disks);
}

bool Supervisor::take_disks(RestoreState& state, const ckpt::Result<std::vector<RestoredDisk>>& disks) {
  if (!disks.ok()) {
    // A QEMU that does not answer now may do so later; a job that failed is started again by going back one step.
    bool job_failed = state.phase == "streaming" && disks.error().code != Code::unavailable;
    if (job_failed) state.phase = "running";
    if (state.reason == disks.error().message()) return job_failed;
    state.reason = disks.error().message();
    log_line(state.name + ": its disks: " + state.reason);
    return true;
  }
  if (state.phase == "running") log_line(state.name + ": memory is local, the disks follow");
  state.phase = "streaming";
  state.reason.clear();
  // Their servers may have been replaced meanwhile.
  for (std::size_t i = 0; i < std::min(state.disks.size(), disks->size()); ++i) {
    auto& disk = state.disks[i];
    disk.node = (*disks)[i].node;
    disk.overlay = (*disks)[i].overlay;
    disk.streaming = (*disks)[i].streaming;
    disk.local = (*disks)[i].local;
    if (!disk.local || !disk.server.known()) continue;
    terminate(disk.server, SIGTERM);
    disk.server = {};
  }
  (void)all_local(state);
  return true;
}

void Supervisor::close(RestoreState& state, const std::string& phase, const std::string& reason) {
  if (phase == "failed") {
    terminate(state.qemu, SIGKILL);
    revoke_base(daemon_.run_dir(), state.name);
    if (!state.former.is_null()) daemon_.put_back(state.name, state.former);
    // ckptctl removes what it has made; these are ours, and no guest has run with them.
    for (const auto& disk : state.disks)
      if (state.is_domains() && !state.revert) ::unlink(disk.overlay.c_str());
  }
  state.former = Json();
  terminate(state.agent, SIGTERM);
  for (const auto& disk : state.disks) terminate(disk.server, SIGTERM);
  ::unlink(daemon_.run_dir().device_state(state.name).c_str());
  unpin(state);
  state.phase = phase;
  state.reason = reason;
  log_line(state.name + ": restore from " + state.source + " " + phase + ": " + reason);
}

void Supervisor::unpin(const RestoreState& state) {
  auto source = ckpt::parse_checkpoint_id(state.source);
  if (!source.ok()) return;
  auto status = daemon_.store().unpin(*source, state.holder);
  if (!status.ok() && status.error().code != Code::not_found) log_line(state.name + ": " + status.error().message());
}

// supervisor_domains.cc asks too.
template std::optional<ckpt::Result<bool>> Supervisor::ask(Talks<bool>&, const RestoreState&, Question<bool>);

bool Supervisor::may_start(const std::string& key) {
  auto& backoff = backoffs_[key];
  std::int64_t now_ms = monotonic_ms();
  if (now_ms < backoff.not_before_ms) return false;
  backoff.young_deaths = now_ms - backoff.started_ms < grown_up_ms ? backoff.young_deaths + 1 : 0;
  backoff.started_ms = now_ms;
  unsigned late = backoff.young_deaths < restarts_at_once ? 0 : backoff.young_deaths - restarts_at_once + 1;
  if (late > 0) backoff.not_before_ms = now_ms + std::min(backoff_ms << std::min(late - 1, 8u), backoff_largest_ms);
  return true;
}

Json Supervisor::list(const std::string& machine) {
  std::lock_guard lock(mutex_);
  Json all = Json::array();
  for (const auto& [name, known] : restores_)
    if (machine.empty() || name == machine) all.push_back(restore_json(known.state, directory_of(known.state)));
  return all;
}

bool Supervisor::forget(const std::string& machine) {
  std::lock_guard lock(mutex_);
  auto known = restores_.find(machine);
  // One that has begun meanwhile is not touched.
  if (known != restores_.end() && under_way(known->second.state)) return true;
  std::error_code error;
  std::filesystem::remove_all(daemon_.run_dir().restore(machine), error);
  if (error) log_line(machine + ": " + error.message() + ": " + daemon_.run_dir().restore(machine));
  return restores_.erase(machine) > 0;
}

ckpt::Status Supervisor::finish(const std::string& machine) {
  CKPT_TRY(check_machine_name(machine));
  std::lock_guard lock(mutex_);
  auto known = restores_.find(machine);
  if (known == restores_.end() || !under_way(known->second.state))
    return make_error(Code::not_found, "no restore onto '" + machine + "' is under way: see 'ckptctl restores'");
  RestoreState* state = &known->second.state;
  if (state->mode != "lazy") return {};
  auto mode = std::find(state->agent_argv.begin(), state->agent_argv.end(), "--mode");
  if (mode == state->agent_argv.end() || ++mode == state->agent_argv.end())
    return make_error(Code::corrupt, directory_of(*state) + "/state.json: the agent's command line has no --mode");
  *mode = "aggressive";
  state->mode = "aggressive";
  (void)save(known->second);
  // One that does not hear is ended: its successor, started at the next step, goes on in the new mode.
  if (!tell_agent(*state, "mode aggressive").ok()) terminate(state->agent, SIGTERM);
  return {};
}

}  // namespace ckptd
