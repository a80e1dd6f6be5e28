// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/qmp.h"

#include "common/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t message_limit_bytes = 4 << 20;

}  // namespace

ckpt::Result<Qmp> Qmp::connect(const std::string& path, int time_limit_ms) {
  CKPT_ASSIGN(Fd fd, connect_unix(path));
  Qmp qmp(std::make_unique<LineChannel>(std::move(fd), message_limit_bytes), time_limit_ms);
  CKPT_ASSIGN(Json greeting, qmp.read_message());
  if (!greeting.contains("QMP")) return make_error(Code::protocol, path + " does not speak QMP");
  auto ready = qmp.execute("qmp_capabilities");
  if (!ready.ok()) return ready.error();
  return qmp;
}

ckpt::Result<Json> Qmp::read_message() {
  CKPT_ASSIGN(auto line, channel_->read_line(time_limit_ms_));
  if (!line) return make_error(Code::unavailable, "QEMU has closed its QMP connection");
  return parse_object(*line, message_limit_bytes);
}

ckpt::Result<Json> Qmp::execute(const std::string& command, const Json& arguments) {
  Json request = {{"execute", command}};
  if (!arguments.empty()) request["arguments"] = arguments;
  CKPT_TRY(channel_->write_line(dump(request)));
  for (;;) {
    CKPT_ASSIGN(Json message, read_message());
    if (auto it = message.find("return"); it != message.end()) return Json(*it);
    if (auto it = message.find("error"); it != message.end())
      return make_error(Code::refused, "QEMU: " + command + ": " + text_of(*it, "desc", "no reason given"));
  }
}

}  // namespace ckptd
