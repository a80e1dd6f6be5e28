// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <functional>

#include "ckpt/stream.h"
#include "stream_client.h"

namespace ckpt::tools {

// A client and a receiver in one process, their bytes carried by hand.
class LocalSession {
public:
  LocalSession(StreamClient& client, StreamReceiver& receiver) : client_(client), receiver_(receiver) {}

  // Carries bytes both ways until neither end has anything to say. An error of either end ends the session.
  Status settle();
  // The same, the client's bytes in pieces of `piece` bytes.
  Status settle_in_pieces(std::size_t piece);

  // Asks for checkpoints until `count` more are durable.
  Status take(std::uint64_t count);

private:
  StreamClient& client_;
  StreamReceiver& receiver_;
};

}  // namespace ckpt::tools
