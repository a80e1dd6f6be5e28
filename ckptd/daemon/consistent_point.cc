// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/consistent_point.h"

#include <algorithm>
#include <optional>

#include "common/clock.h"
#include "common/guest_agent.h"
#include "common/text.h"
#include "daemon/guest_helper.h"
#include "daemon/log.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

// The agent is looked for first, which has a limit of its own.
constexpr std::int64_t find_limit_ms = 12'000;
constexpr std::int64_t thaw_limit_ms = 10'000;

// One guest, frozen for one point.
class Freeze {
public:
  Freeze(Daemon& daemon, std::string machine, FrozenNote note)
      : daemon_(daemon), machine_(std::move(machine)), note_(std::move(note)) {}

  ckpt::Status begin();
  bool holds() const { return helper_->silent(); }
  void end();
  std::int64_t left_ms() const { return std::max<std::int64_t>(until_ms_ - monotonic_ms(), 0); }
  // Somebody else has thawed it before.
  bool was_undermined() const { return frozen_ > 0 && thawed_ == 0u; }

private:
  Daemon& daemon_;
  const std::string machine_;
  const FrozenNote note_;
  std::optional<GuestHelper> helper_;
  std::int64_t until_ms_ = 0;
  std::uint64_t frozen_ = 0;
  std::optional<std::uint64_t> thawed_;
};

ckpt::Status Freeze::begin() {
  CKPT_TRY(daemon_.frozen().hold(machine_, note_));
  const std::int64_t limit_ms = daemon_.options().freeze_limit_ms;
  auto started =
      GuestHelper::start(note_, GuestHelper::Task::hold, daemon_.options().libvirt_uri, limit_ms, daemon_.stop_fd());
  if (!started.ok()) {
    daemon_.frozen().thawed(machine_, note_.since_ns);
    return started.error();
  }
  helper_.emplace(started.take());
  auto said = helper_->answer(limit_ms + find_limit_ms);
  auto frozen = said.ok() ? check_answer(*said) : said;
  if (frozen.ok()) {
    frozen_ = number_of(*frozen, "frozen");
    until_ms_ = monotonic_ms() + limit_ms;
    return {};
  }
  // Without its word nobody knows whether the guest is frozen.
  if (said.ok() && !flag_of(*said, "asked"))
    daemon_.frozen().thawed(machine_, note_.since_ns);
  else
    end();
  return make_error(frozen.error().code, "'" + machine_ + "' is not frozen: " + frozen.error().message());
}

void Freeze::end() {
  helper_->tell();
  auto said = helper_->answer(thaw_limit_ms);
  // That nobody told it in time may be there before what became of it.
  if (said.ok() && flag_of(*said, "late")) said = helper_->answer(thaw_limit_ms);
  auto thawed = said.ok() ? check_answer(said.take()) : said;
  if (thawed.ok()) {
    thawed_ = number_of(*thawed, "thawed");
    daemon_.frozen().thawed(machine_, note_.since_ns);
    return;
  }
  if (thawed.error().code == Code::not_found) return daemon_.frozen().thawed(machine_, note_.since_ns);
  log_line(machine_ + ": may be FROZEN, " + note_.reason + ": " + thawed.error().message());
  daemon_.frozen().let_go(machine_, note_.since_ns, thawed.error().message());
}

}  // namespace

ckpt::Result<FrozenNote> reach_guest(const Daemon& daemon, const std::string& machine) {
  FrozenNote note;
  note.since_ns = wall_clock_ns();
  const auto records = daemon.records();
  auto known = records.find(machine);
  if (known != records.end()) note.domain = known->second.domain;
  if (!note.domain.empty()) return note;
  CKPT_ASSIGN(note.qemu, read_pid_file(daemon.run_dir().pid_file(machine)));
  if (!note.qemu.identified() || !alive(note.qemu))
    return make_error(Code::unavailable, "the process of '" + machine + "' cannot be seen");
  auto socket = guest_agent_socket(note.qemu.pid);
  if (!socket.ok()) return make_error(socket.error().code, "'" + machine + "': " + socket.error().message());
  note.socket = socket.take();
  return note;
}

ckpt::Result<ckpt::CheckpointInfo> take_consistent_point(Daemon& daemon, const std::string& name,
                                                         std::uint64_t time_limit_ms,
                                                         const std::function<bool()>& gone) {
  auto machine = daemon.machine(name);
  if (!machine) return make_error(Code::not_found, "'" + name + "' is not protected: see 'ckptctl status'");
  // A guest is not frozen for an epoch that cannot come soon.
  if (auto status = machine->status(); !status.connected || status.state != "capturing")
    return make_error(Code::unavailable, "'" + name + "' is " + (status.connected ? status.state : "not connected") +
                                             (status.reason.empty() ? "" : " (" + status.reason + ")") +
                                             ": an application-consistent point is taken while it is capturing");
  CKPT_ASSIGN(FrozenNote note, reach_guest(daemon, name));
  note.reason = "for an application-consistent point";
  Freeze freeze(daemon, name, std::move(note));
  CKPT_TRY(freeze.begin());
  const Machine::Frozen frozen{
      .holds = [&] { return freeze.holds(); }, .over = [&] { freeze.end(); }, .limit_ms = freeze.left_ms()};
  auto taken = machine->take_now(
      time_limit_ms, [&] { return gone() || daemon.stopping(); }, &frozen);
  if (!taken.ok() || !freeze.was_undermined()) return taken;
  const std::uint64_t number = taken->id.number;
  (void)daemon.store().remove(name, {&number, 1});
  return make_error(Code::refused, "somebody else has thawed '" + name +
                                       "' before the point was captured: it would not be application-consistent, "
                                       "and is removed");
}

}  // namespace ckptd
