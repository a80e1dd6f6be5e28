// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/json.h"
#include "common/line_channel.h"

namespace ckptd {

// The client's end of doc/control_protocol.md.
class ControlClient {
public:
  // unavailable: ckptd does not run there; the context says how to start it.
  static ckpt::Result<ControlClient> connect(const std::string& socket_path);

  // One request and its (last) answer; an {"ok":false} becomes an Error. `more` sees the answers before the last, and
  // cancels by returning false.
  ckpt::Result<Json> request(const Json& request, const std::function<bool(const Json&)>& more = {});

private:
  explicit ControlClient(std::unique_ptr<LineChannel> channel) : channel_(std::move(channel)) {}

  std::unique_ptr<LineChannel> channel_;
};

// One request over a connection of its own.
ckpt::Result<Json> ask_ckptd(const std::string& socket_path, const Json& request,
                             const std::function<bool(const Json&)>& more = {});

}  // namespace ckptd
