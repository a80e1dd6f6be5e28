// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>
#include <string>

#include "common/json.h"
#include "common/line_channel.h"

namespace ckptd {

// One QMP connection. QEMU serves one client a socket at a time, so keep it short.
class Qmp {
public:
  static constexpr int usual_limit_ms = 5'000;  // a QEMU that is well needs far less

  // Connects and negotiates. unavailable: nobody listens yet, or QEMU does not answer within `time_limit_ms`. Once
  // `stop_fd` can be read, this and all commands end with unavailable.
  static ckpt::Result<Qmp> connect(const std::string& path, int time_limit_ms, int stop_fd = -1);

  // Runs a command and returns its "return" value. Events that come in between are dropped, and buy no time.
  ckpt::Result<Json> execute(const std::string& command, const Json& arguments = Json::object());

private:
  Qmp(std::unique_ptr<LineChannel> channel, int time_limit_ms)
      : channel_(std::move(channel)), time_limit_ms_(time_limit_ms) {}
  ckpt::Result<Json> read_message(std::int64_t deadline_ms);

  std::unique_ptr<LineChannel> channel_;
  int time_limit_ms_;
};

}  // namespace ckptd
