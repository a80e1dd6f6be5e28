// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Who owns a restore's record, and what an earlier ckptd has left.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "ckpt/env.h"
#include "common/clock.h"
#include "common/guest_agent.h"
#include "common/text.h"
#include "daemon/log.h"
#include "daemon/supervisor.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::int64_t last_limit_ms = 5'000;
constexpr auto last_look = std::chrono::milliseconds(10);

// Processes of a restore that is over, which were told to end and have not yet. They hold its sockets.
bool lingers(const RestoreState& state) {
  return alive(state.agent) || (state.phase == "failed" && alive(state.qemu)) ||
         std::any_of(state.disks.begin(), state.disks.end(),
                     [](const RestoredDisk& disk) { return alive(disk.server); });
}

bool may_follow(const std::string& phase, const std::string& next) {
  return phase == "starting" ? next == "starting" || next == "resuming" : next == "resuming" || next == "running";
}

}  // namespace

void Supervisor::load() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.run_dir().restores(), error)) {
    auto state = load_restore(entry.path());
    if (state.ok())
      restores_.emplace(state->name, Known{*state});
    else if (state.error().code != Code::not_found)
      log_line("left alone: " + state.error().message());
  }
}

// RUN_DIR does not outlive the host's restart, and pins do.
void Supervisor::drop_orphaned_pins() {
  for (const auto& machine : daemon_.store().machines()) {
    auto kept = daemon_.store().checkpoints(machine.name);
    if (!kept.ok()) continue;
    for (const auto& info : *kept) {
      for (const auto& holder : info.pins) {
        if (!holder.starts_with(restore_holder_prefix) || owns_pin(holder, info.id)) continue;
        auto dropped = daemon_.store().unpin(info.id, holder);
        log_line(ckpt::to_string(info.id) + ": the pin of a restore that is no more (" + holder +
                 (dropped.ok() ? ") is dropped" : ") cannot be dropped: " + dropped.error().message()));
      }
    }
  }
}

bool Supervisor::owns_pin(const std::string& holder, const ckpt::CheckpointId& id) const {
  std::string name = holder.substr(restore_holder_prefix.size());
  auto known = restores_.find(name);
  if (known != restores_.end())
    return under_way(known->second.state) && known->second.state.source == ckpt::to_string(id);
  // A record that cannot be read may be a guest's that still needs the checkpoint.
  std::error_code error;
  return check_machine_name(name).ok() &&
         std::filesystem::exists(daemon_.run_dir().restore(name) + "/state.json", error);
}

ckpt::Status Supervisor::check_free_locked(const std::string& name, const std::string& cure) {
  auto it = restores_.find(name);
  if (it == restores_.end()) return {};
  Known& known = it->second;
  if (under_way(known.state) && !known.preparing) {
    // It may be over, and step() has not seen it yet.
    if (known.state.phase == "starting" ? tend_start(known.state) : !runs(known.state) && tend(known.state))
      (void)save(known);
  }
  if (under_way(known.state))
    return make_error(Code::busy, "a restore onto '" + name + "' is under way (" + known.state.phase +
                                      "): see 'ckptctl restores', " + cure);
  return {};
}

ckpt::Status Supervisor::check_free(const std::string& machine, const std::string& cure) {
  std::lock_guard lock(mutex_);
  return check_free_locked(machine, cure);
}

void Supervisor::wait_for_the_last(const std::string& name) {
  for (std::int64_t end_ms = monotonic_ms() + last_limit_ms; monotonic_ms() < end_ms;) {
    {
      std::lock_guard lock(mutex_);
      auto known = restores_.find(name);
      if (known == restores_.end() || under_way(known->second.state) || !lingers(known->second.state)) return;
    }
    std::this_thread::sleep_for(last_look);
  }
}

ckpt::Result<RestoreState> Supervisor::reserve(const RestoreState& wanted) {
  const std::string& name = wanted.name;
  const std::string cure = wanted.is_domains() ? "wait for its end" : "or use --as NEWNAME";
  // Both may wait a moment for what is about to end; nobody else waits with them.
  CKPT_TRY(check_free(name, cure));
  wait_for_the_last(name);
  CKPT_TRY(daemon_.check_not_running(name));

  std::lock_guard lock(mutex_);
  CKPT_TRY(check_free_locked(name, cure));
  CKPT_TRY(daemon_.check_not_running(name));
  auto last = restores_.find(name);
  if (last != restores_.end() && lingers(last->second.state))
    return make_error(Code::busy, "processes of the last restore onto '" + name +
                                      "' have not ended: see 'ckptctl restores', " + cure);
  std::array<std::uint8_t, 16> secret;
  CKPT_TRY(ckpt::Env::system().random(secret));
  RestoreState state = wanted;
  state.phase = "starting";
  state.holder = std::string(restore_holder_prefix) + name;
  state.token = hex(secret);
  state.begun_ns = wall_clock_ns();
  Known known{.state = state, .preparing = true};
  CKPT_TRY(make_directories(directory_of(state)));
  CKPT_TRY(save(known));
  restores_[name] = std::move(known);
  return state;
}

ckpt::Result<RestoreState> Supervisor::resume(const std::string& name, const std::string& token) {
  std::lock_guard lock(mutex_);
  CKPT_ASSIGN(Known * known, owned(name, token));
  if (known->preparing) return make_error(Code::busy, "the restore onto '" + name + "' is being prepared");
  known->preparing = true;
  return known->state;
}

void Supervisor::prepared(const std::string& name) {
  std::lock_guard lock(mutex_);
  if (auto known = restores_.find(name); known != restores_.end()) known->second.preparing = false;
}

ckpt::Result<Supervisor::Known*> Supervisor::owned(const std::string& name, const std::string& token) {
  auto it = restores_.find(name);
  if (it == restores_.end() || token.empty() || it->second.state.token != token)
    return make_error(Code::refused, "this is not the last restore onto '" + name + "': see 'ckptctl restores'");
  const std::string& phase = it->second.state.phase;
  if (phase != "starting" && phase != "resuming")
    return make_error(Code::refused, "the restore onto '" + name + "' is in phase '" + phase +
                                         "', in which ckptd alone acts" +
                                         (it->second.state.reason.empty() ? "" : ": " + it->second.state.reason));
  return &it->second;
}

ckpt::Status Supervisor::expect_frozen(const RestoreState& state) {
  FrozenNote note{.domain = state.domain, .reason = "as restored from " + state.source, .since_ns = wall_clock_ns()};
  if (!state.is_domains()) {
    note.qemu = state.qemu;
    auto socket = guest_agent_socket(state.qemu.pid);
    if (!socket.ok())
      return make_error(socket.error().code,
                        state.source + " is of a frozen guest, which nobody could thaw: " + socket.error().message());
    note.socket = socket.take();
  }
  return daemon_.frozen().expect(state.name, note);
}

ckpt::Status Supervisor::update(const std::string& token, RestoreState state, const Json& config) {
  std::lock_guard lock(mutex_);
  CKPT_ASSIGN(Known * known, owned(state.name, token));
  const RestoreState& now = known->state;
  if (!may_follow(now.phase, state.phase) || state.source != now.source || state.holder != now.holder)
    return make_error(Code::invalid, "a restore from " + now.source + " in phase '" + now.phase +
                                         "' cannot become one from " + state.source + " in phase '" + state.phase +
                                         "'");
  const bool resumes = state.phase == "resuming" && now.phase != "resuming";
  state.token = token;
  state.starter = now.starter;
  state.frozen = now.frozen;
  // Before it can run.
  if (resumes && state.frozen) CKPT_TRY(expect_frozen(state));
  state.former = resumes ? daemon_.former(state.name) : state.phase == "running" ? Json() : now.former;
  known->state = std::move(state);
  auto saved = save(*known);
  // A guest that runs is no failure.
  if (known->state.phase == "running") return {};
  if (!saved.ok() || !resumes) return saved;
  // Not earlier: its QEMU comes back for the socket. Not before it is written down what the name was.
  auto policy = daemon_.protect(known->state.name, config, Json());
  return policy.ok() ? ckpt::Status() : policy.error();
}

ckpt::Status Supervisor::abandon(const std::string& name, const std::string& token, const std::string& reason) {
  std::lock_guard lock(mutex_);
  CKPT_ASSIGN(Known * known, owned(name, token));
  close(known->state, "failed", reason);
  return save(*known);
}

}  // namespace ckptd
