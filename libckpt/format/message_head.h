// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What every message begins with, of the checkpoint stream and of the restore protocol: u32 magic · u16 type · u16
// reserved · u64 epoch · u32 length of the payload · u32 sequence.
#pragma once

#include <string_view>

#include "base/bytes.h"
#include "ckpt/result.h"

namespace ckpt {

inline constexpr std::size_t message_head_bytes = 24;
inline constexpr std::size_t message_length_at = 16;

struct MessageHead {
  std::uint16_t type = 0;
  std::uint64_t epoch = 0;
  std::uint32_t length = 0;
  std::uint32_t sequence = 0;
};

inline void encode_message_head(Bytes& out, std::uint32_t magic, const MessageHead& head) {
  ByteWriter to(out);
  to.u32(magic);
  to.u16(head.type);
  to.u16(0);
  to.u64(head.epoch);
  to.u32(head.length);
  to.u32(head.sequence);
}

// Needs message_head_bytes. Errors are protocol; `foreign` is what is said of another magic. What the fields mean is
// the protocol's own to check.
inline Result<MessageHead> decode_message_head(ByteView bytes, std::uint32_t magic, std::string_view foreign) {
  ByteReader from(bytes);
  std::uint32_t found = from.u32();
  MessageHead head;
  head.type = from.u16();
  std::uint16_t reserved = from.u16();
  head.epoch = from.u64();
  head.length = from.u32();
  head.sequence = from.u32();
  if (!from.finished()) return make_error(Code::protocol, "the head of a message is incomplete");
  if (found != magic) return make_error(Code::protocol, std::string(foreign));
  if (reserved != 0) return make_error(Code::protocol, "a reserved field of a message's head is not 0");
  return head;
}

}  // namespace ckpt
