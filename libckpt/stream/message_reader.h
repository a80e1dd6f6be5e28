// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <optional>

#include "base/bytes.h"
#include "ckpt/result.h"
#include "format/stream_codec.h"

namespace ckpt {

// Cuts the bytes of one direction of a connection into messages and checks their sequence. Keeps at most one message,
// and only when it did not arrive in one piece.
class MessageReader {
public:
  // The payload is valid during the call.
  using Sink = std::function<Status(const wire::Header&, ByteView payload)>;

  // Stops at the first error, of the bytes or of the sink; it must not be called again after one.
  Status feed(ByteView bytes, const Sink& sink);

  // Of the message under way, as far as is known: before its head is whole, of the head. 0 after an error.
  std::size_t missing_bytes() const;

private:
  std::size_t wanted_bytes() const { return header_ ? header_->length : wire::header_bytes; }
  Status take_header(ByteView bytes);

  std::optional<wire::Header> header_;  // of the message whose payload is awaited
  Bytes partial_;                       // what there is of that payload, or of the next head
  std::uint32_t next_sequence_ = 0;
};

}  // namespace ckpt
