// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>

#include "stream_client.h"

namespace ckpt::tools {

enum class Misbehaviour { none, truncate, replay, foreign_epoch, oversize, garbage, version };

struct SocketOptions {
  std::string path;
  std::uint64_t epochs = 10;     // to be durable before the end; 0: for ever
  std::uint64_t reconnects = 0;  // after a connection that was lost; not after a refusal
  Misbehaviour misbehaviour = Misbehaviour::none;
  std::uint64_t misbehave_after = 1;  // durable epochs
};

enum class SocketEnd { done, refused, lost };

// Plays the client on a unix socket to the end. `durable` counts the client's durable epochs, kept by its events.
SocketEnd run_socket_session(StreamClient& client, const SocketOptions& options, const std::uint64_t& durable,
                             std::string& why);

}  // namespace ckpt::tools
