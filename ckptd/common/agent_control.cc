// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/agent_control.h"

#include "common/line_channel.h"
#include "os/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int answer_limit_ms = 2'000;

}  // namespace

ckpt::Status tell_agent(const RestoreState& state, const std::string& line) {
  CKPT_ASSIGN(os::Fd fd, os::connect_unix(state.agent_status + ".sock"));
  LineChannel channel(std::move(fd), json_line_limit_bytes);
  CKPT_TRY(channel.write_line(line));
  CKPT_ASSIGN(auto answer, channel.read_line(answer_limit_ms));
  if (!answer) return make_error(Code::unavailable, "restore-agent has closed the connection");
  CKPT_ASSIGN(Json said, parse_object(*answer));
  if (flag_of(said, "ok")) return {};
  return make_error(Code::refused, "restore-agent: " + text_of(said, "error", "no reason given"));
}

}  // namespace ckptd
