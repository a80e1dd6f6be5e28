// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Restores that libvirt runs. Nobody tells ckptd that libvirt has given one up: it is seen from the files that its
// hook leaves, and from time.
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"
#include "daemon/domain_disks.h"
#include "daemon/log.h"
#include "daemon/supervisor.h"

namespace ckptd {

namespace {

// From `restore begin` to `start`, in which libvirt itself does little; and until QEMU has handed its memory over.
constexpr std::uint64_t start_limit_ms = 30'000, connect_limit_ms = 120'000;

bool has_memory(const Json& agent) {
  const std::string state = text_of(agent, "state");
  return state == "restoring" || state == "done";
}

}  // namespace

bool Supervisor::domain_is_there(const RestoreState& state) const {
  return ::access(daemon_.run_dir().libvirt_domain(state.domain).c_str(), F_OK) == 0;
}

// Until QEMU has said HELLO it has no number here.
bool Supervisor::runs(const RestoreState& state) const {
  if (!state.is_domains()) return alive(state.qemu);
  return domain_is_there(state) && (!state.qemu.known() || alive(state.qemu));
}

bool Supervisor::tend_domain_start(RestoreState& state) {
  if (has_memory(read_agent_status(state))) {
    state.phase = "running";
    state.running_ns = wall_clock_ns();
    log_line(state.name + ": libvirt runs it from " + state.source);
    return true;
  }
  const bool started = state.agent.known();
  const std::uint64_t begun_ms_ago = (wall_clock_ns() - state.begun_ns) / 1'000'000;
  if (begun_ms_ago > (started ? connect_limit_ms : start_limit_ms) || (started && !domain_is_there(state))) {
    close(state, "failed", "libvirt has not gone on with it");
    return true;
  }
  if (!started) return false;
  bool changed = tend_agent(state, false);
  return tend_servers(state) || changed;
}

bool Supervisor::tend_domain(RestoreState& state) {
  bool changed = false;
  if (!state.qemu.known()) {
    auto process = read_pid_file(daemon_.run_dir().pid_file(state.name));
    // An earlier life's may be there.
    changed = process.ok() && process->identified() && alive(*process);
    if (changed) state.qemu = *process;
  }
  if (state.defined) return changed;
  auto defined = ask(word_talks_, state, define_domain_disks);
  if (!defined) return changed;
  state.defined = defined->ok();
  const std::string reason = defined->ok() ? "" : defined->error().message();
  if (reason == state.reason) return state.defined || changed;
  state.reason = reason;
  if (!reason.empty()) log_line(state.name + ": libvirt does not know its new disks for the next start: " + reason);
  return true;
}

}  // namespace ckptd
