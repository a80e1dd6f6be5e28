// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/housekeeper.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"
#include "daemon/log.h"

namespace ckptd {

namespace {

constexpr int round_ms = 5000;
constexpr int nice_level = 15;

// Not a failed system call, which has an errno, but the store's own refusal after one: it writes no more as it is.
bool refuses_to_write(const ckpt::Error& error) { return error.code == ckpt::Code::io && error.sys_errno == 0; }

}  // namespace

Housekeeper::Housekeeper(Daemon& daemon) : daemon_(daemon), thread_([this] { run(); }) {}

Housekeeper::~Housekeeper() { thread_.join(); }

void Housekeeper::run() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), nice_level);
  while (!daemon_.stopping()) {
    if (!daemon_.store().stats().damaged) {
      if (clock_is_steady())
        for (const auto& [name, record] : daemon_.records()) thin(name, record.policy);
      collect();
    }
    daemon_.wait_for_chores(round_ms);
  }
}

bool Housekeeper::clock_is_steady() {
  bool steady = clock_.steady(static_cast<std::int64_t>(wall_clock_ns() / 1'000'000), since_boot_ms());
  if (steady_ && !steady)
    log_line("retention: the host's clock was set by " + std::to_string(clock_.last_step_ms() / 1000) +
             " s; nothing is let go for " + format_duration_ms(ClockSteps::settle_ms));
  steady_ = steady;
  return steady;
}

void Housekeeper::thin(const std::string& machine, const Policy& policy) {
  auto kept = daemon_.store().checkpoints(machine);
  if (!kept.ok()) return;
  auto numbers = expired(policy, *kept);
  if (numbers.empty()) return;
  auto removed = remove_in_slices(
      [&](std::span<const std::uint64_t> slice) {
        if (daemon_.stopping()) return ckpt::Status(ckpt::make_error(ckpt::Code::busy, "ckptd is stopping"));
        return daemon_.store().remove(machine, slice);
      },
      numbers);
  // busy: ckptd stops, or one was pinned meanwhile; the next round does without it.
  if (!removed.ok() && removed.error().code != ckpt::Code::busy)
    log_line(machine + ": retention: " + removed.error().message());
}

void Housekeeper::collect() {
  while (!daemon_.stopping()) {
    auto given_back = daemon_.store().collect();
    if (!given_back.ok() && refuses_to_write(given_back.error())) {
      // A machine that is connected would notice it by itself; without one, pins and names would fail for ever.
      daemon_.request_stop(true, "the store must be opened again: " + given_back.error().message());
      return;
    }
    if (!given_back.ok()) log_line("reclaiming space: " + given_back.error().message());
    if (!given_back.ok() || *given_back == 0) break;
  }
  std::vector<ckpt::Damage> found;
  for (const ckpt::Damage& damage : daemon_.store().stats().uncounted) {
    if (!reported_.insert(damage.place).second) continue;
    found.push_back(damage);
    std::string reached = damage.checkpoints.empty() ? "a removed checkpoint" : ckpt::to_string(damage.checkpoints[0]);
    log_line("reclaiming space: " + damage.place + ", which " + reached + " needs, is damaged (" + damage.reason +
             "): older garbage is kept until the checkpoints that 'ckptctl verify' names are removed");
  }
  daemon_.copy_anew(found);
}

}  // namespace ckptd
