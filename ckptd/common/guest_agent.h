// SPDX-License-Identifier: LGPL-2.1-or-later
//
// QEMU's guest agent, at the host's end of its channel. What it says comes from inside the guest: it is bounded in
// size, number and time, and no word of it is believed beyond the question.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/json.h"
#include "common/line_channel.h"

namespace ckptd {

class GuestAgent {
public:
  static constexpr std::int64_t usual_limit_ms = 5'000;  // an agent that is well needs far less

  // What an earlier client had asked for is passed over. unavailable: nobody listens there (with the errno: its QEMU
  // has gone), or no agent answers in time.
  static ckpt::Result<GuestAgent> connect(const std::string& socket, std::int64_t limit_ms = usual_limit_ms);

  // Its "return". Errors: refused, in the agent's words; unavailable: not in time, and nothing more may be asked here.
  ckpt::Result<Json> execute(const std::string& command, std::int64_t limit_ms = usual_limit_ms);
  // One that returns a number. Errors also: protocol.
  ckpt::Result<std::uint64_t> count(const std::string& command, std::int64_t limit_ms);

private:
  GuestAgent(std::string socket, std::unique_ptr<LineChannel> channel)
      : socket_(std::move(socket)), channel_(std::move(channel)) {}
  ckpt::Result<Json> read_answer(std::int64_t deadline_ms);

  std::string socket_;
  std::unique_ptr<LineChannel> channel_;
};

// One line of the agent's: an object with "return" or "error". Errors: invalid, limit.
ckpt::Result<Json> parse_agent_answer(std::string_view line);

// The socket of the agent's channel in a QEMU's command line, as it stands there.
std::optional<std::string> guest_agent_socket(const std::vector<std::string>& argv);
// Of a QEMU that runs, from the root. Errors: not_found: it has none, and how it gets one.
ckpt::Result<std::string> guest_agent_socket(pid_t qemu);

}  // namespace ckptd
