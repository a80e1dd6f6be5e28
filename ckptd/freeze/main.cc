// SPDX-License-Identifier: LGPL-2.1-or-later
//
// guest-freeze: freezes the file systems of a guest through its agent's socket, and thaws them again
// (common/guest_freeze.h). Of libvirt's domains libvirt-bridge does the same.
#include <CLI/CLI.hpp>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/guest_agent.h"
#include "common/guest_freeze.h"

namespace ckptd {
namespace {

using ckpt::Code;
using ckpt::make_error;

constexpr std::int64_t thaw_limit_ms = 10'000;

bool has_gone(const ckpt::Error& error) { return error.sys_errno == ECONNREFUSED || error.sys_errno == ENOENT; }

class AgentFreezer final : public GuestFreezer {
public:
  AgentFreezer(std::string socket, std::int64_t limit_ms) : socket_(std::move(socket)), limit_ms_(limit_ms) {}

  ckpt::Result<std::uint64_t> freeze(bool& asked) override {
    const std::int64_t until_ms = monotonic_ms() + limit_ms_;
    CKPT_ASSIGN(agent_, GuestAgent::connect(socket_));
    CKPT_ASSIGN(Json status, agent_->execute("guest-fsfreeze-status"));
    if (status == Json("frozen"))
      return make_error(Code::busy, "the guest's file systems are frozen already, by somebody else: thaw them first");
    asked = true;
    auto frozen = agent_->count("guest-fsfreeze-freeze", std::max<std::int64_t>(until_ms - monotonic_ms(), 0));
    // An answer that comes late is not the next one's.
    if (!frozen.ok()) agent_.reset();
    return frozen;
  }
  ckpt::Result<std::uint64_t> thaw() override {
    // The agent looks for a new connection every 100 ms only.
    if (auto agent = std::exchange(agent_, std::nullopt))
      if (auto thawed = agent->count("guest-fsfreeze-thaw", thaw_limit_ms); thawed.ok()) return thawed;
    auto again = GuestAgent::connect(socket_);
    if (!again.ok() && has_gone(again.error())) return make_error(Code::not_found, "its QEMU has gone");
    if (!again.ok()) return again.error();
    return again->count("guest-fsfreeze-thaw", thaw_limit_ms);
  }

private:
  const std::string socket_;
  const std::int64_t limit_ms_;
  std::optional<GuestAgent> agent_;
};

int run(int argc, char** argv) {
  CLI::App app("Freezes and thaws a guest's file systems through its agent; started by ckptd.", "guest-freeze");
  app.set_version_flag("--version", std::string("guest-freeze " CKPT_VERSION));
  std::string socket;
  std::int64_t limit_ms = 10'000;
  app.add_option("--socket", socket, "Of the guest agent's channel")->type_name("PATH")->required();
  app.add_option("--limit", limit_ms, "Milliseconds after which it thaws by itself")->capture_default_str();
  app.require_subcommand(1);
  app.fallthrough();
  auto* hold = app.add_subcommand("hold", "Freeze, and thaw when told to, or when the parent ends");
  app.add_subcommand("thaw", "Thaw");
  CLI11_PARSE(app, argc, argv);
  AgentFreezer freezer(socket, limit_ms);
  return *hold ? hold_frozen(freezer, limit_ms) : thaw_guest(freezer);
}

}  // namespace
}  // namespace ckptd

int main(int argc, char** argv) { return ckptd::run(argc, argv); }
