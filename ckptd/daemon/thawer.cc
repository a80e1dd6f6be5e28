// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/thawer.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "common/clock.h"
#include "daemon/guest_helper.h"
#include "daemon/log.h"

namespace ckptd {

namespace {

constexpr int idle_ms = 1'000, look_ms = 50;
constexpr std::int64_t backoff_ms = 250, backoff_largest_ms = 2'000;
// libvirt may have a job of the domain's to wait for; an agent that is well needs a moment.
constexpr std::int64_t answer_limit_ms = 30'000;

ckpt::Result<std::uint64_t> thaw(const FrozenNote& note, const std::string& libvirt_uri, int stop_fd) {
  CKPT_ASSIGN(auto helper, GuestHelper::start(note, GuestHelper::Task::thaw, libvirt_uri, answer_limit_ms, stop_fd));
  CKPT_ASSIGN(Json said, helper.answer(answer_limit_ms));
  CKPT_ASSIGN(said, check_answer(std::move(said)));
  return number_of(said, "thawed");
}

}  // namespace

Thawer::Thawer(Daemon& daemon) : daemon_(daemon), thread_([this] { run(); }) {}

Thawer::~Thawer() { thread_.join(); }

void Thawer::run() {
  while (!daemon_.stopping()) {
    const auto guests = daemon_.frozen().all();
    std::erase_if(talks_,
                  [&](const auto& talk) { return !guests.contains(talk.first) && !talk.second.thawed.valid(); });
    for (const auto& [machine, guest] : guests)
      if (!guest.held) tend(machine, guest);
    daemon_.frozen().wait(guests.empty() ? idle_ms : look_ms);
  }
}

bool Thawer::has_gone(const FrozenNote& note) const {
  if (note.domain.empty()) return !alive(note.qemu);
  // Otherwise the bridge says so: a domain that is no longer protected runs on, frozen.
  if (!daemon_.options().libvirt_uri.empty()) return false;
  return ::access(daemon_.run_dir().libvirt_domain(note.domain).c_str(), F_OK) != 0;
}

void Thawer::tend(const std::string& machine, const FrozenGuests::Guest& guest) {
  Talk& talk = talks_[machine];
  if (talk.thawed.valid()) {
    if (talk.thawed.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
    auto thawed = talk.thawed.get();
    if (thawed.ok() || thawed.error().code == ckpt::Code::not_found) {
      log_line(machine + (thawed.ok() ? ": thawed, " : ": has gone, ") + guest.note.reason);
      daemon_.frozen().thawed(machine, talk.since_ns);
      talk = {};
      return;
    }
    const std::string trouble = thawed.error().message();
    if (trouble != talk.complaint) log_line(machine + ": may be FROZEN, " + guest.note.reason + ": " + trouble);
    talk.complaint = trouble;
    daemon_.frozen().let_go(machine, talk.since_ns, trouble);
    talk.wait_ms = std::clamp(2 * talk.wait_ms, backoff_ms, backoff_largest_ms);
    talk.next_ms = monotonic_ms() + talk.wait_ms;
  }
  if (has_gone(guest.note)) {
    log_line(machine + ": its frozen guest has gone");
    daemon_.frozen().thawed(machine, guest.note.since_ns);
    talk = {};
    return;
  }
  if (monotonic_ms() < talk.next_ms) return;
  talk.since_ns = guest.note.since_ns;
  try {
    talk.thawed = std::async(std::launch::async, thaw, guest.note, daemon_.options().libvirt_uri, daemon_.stop_fd());
  } catch (const std::system_error& error) {
    log_line(machine + ": cannot be thawed now: " + error.code().message());
    talk.next_ms = monotonic_ms() + backoff_largest_ms;
  }
}

}  // namespace ckptd
