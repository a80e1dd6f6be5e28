// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/control_client.h"

#include <cerrno>

#include "os/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t answer_limit_bytes = 64 << 20;

}  // namespace

ckpt::Result<ControlClient> ControlClient::connect(const std::string& socket_path) {
  auto fd = os::connect_unix(socket_path);
  if (!fd.ok() && fd.error().sys_errno != ENOENT && fd.error().sys_errno != ECONNREFUSED) return fd.error();
  if (!fd.ok())
    return make_error(fd.error().code, "ckptd is not running at " + socket_path +
                                           ": start it with 'ckptd --store DIR', or name its place with --run-dir");
  return ControlClient(std::make_unique<LineChannel>(fd.take(), answer_limit_bytes));
}

ckpt::Result<Json> ControlClient::request(const Json& request, const std::function<bool(const Json&)>& more) {
  // ckptd may have refused the connection before it saw the request: its answer says why.
  bool written = channel_->write_line(dump(request)).ok();
  for (;;) {
    auto line = channel_->read_line();
    if (!line.ok() && written) return line.error();
    if (!line.ok() || !*line)
      return make_error(Code::unavailable, "ckptd has closed the connection: was it stopped? See its log");
    CKPT_ASSIGN(Json parsed, parse_object(**line, answer_limit_bytes));
    CKPT_ASSIGN(Json answer, check_answer(std::move(parsed)));
    const Json& more_follows = member_of(answer, "more");
    if (!more_follows.is_boolean() && !more_follows.is_null())
      return make_error(Code::protocol, "ckptd's answer does not say whether another follows");
    if (more_follows != Json(true)) return answer;
    if (more && !more(answer)) return make_error(Code::cancelled, "stopped");
  }
}

ckpt::Result<Json> ask_ckptd(const std::string& socket_path, const Json& request,
                             const std::function<bool(const Json&)>& more) {
  CKPT_ASSIGN(auto client, ControlClient::connect(socket_path));
  return client.request(request, more);
}

}  // namespace ckptd
