// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/qmp.h"

#include "common/clock.h"
#include "os/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t message_limit_bytes = 4 << 20;

}  // namespace

ckpt::Result<Qmp> Qmp::connect(const std::string& path, int time_limit_ms, int stop_fd) {
  CKPT_ASSIGN(os::Fd fd, os::connect_unix_at_once(path));
  Qmp qmp(std::make_unique<LineChannel>(std::move(fd), message_limit_bytes, time_limit_ms), time_limit_ms);
  qmp.channel_->end_with(stop_fd);
  CKPT_ASSIGN(Json greeting, qmp.read_message(monotonic_ms() + time_limit_ms));
  if (!greeting.contains("QMP")) return make_error(Code::protocol, path + " does not speak QMP");
  auto ready = qmp.execute("qmp_capabilities");
  if (!ready.ok()) return ready.error();
  return qmp;
}

ckpt::Result<Json> Qmp::read_message(std::int64_t deadline_ms) {
  CKPT_ASSIGN(auto line, channel_->read_line(LineChannel::no_limit, deadline_ms));
  if (!line) return make_error(Code::unavailable, "QEMU has closed its QMP connection");
  return parse_object(*line, message_limit_bytes);
}

ckpt::Result<Json> Qmp::execute(const std::string& command, const Json& arguments) {
  Json request = {{"execute", command}};
  if (!arguments.empty()) request["arguments"] = arguments;
  std::int64_t deadline_ms = monotonic_ms() + time_limit_ms_;
  CKPT_TRY(channel_->write_line(dump(request)));
  for (;;) {
    CKPT_ASSIGN(Json message, read_message(deadline_ms));
    if (auto it = message.find("return"); it != message.end()) return Json(*it);
    if (auto it = message.find("error"); it != message.end())
      return make_error(Code::refused, "QEMU: " + command + ": " + text_of(*it, "desc", "no reason given"));
  }
}

}  // namespace ckptd
