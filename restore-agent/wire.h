// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The restore protocol, agent side, as pure functions: doc/restore_format.md. What comes from QEMU is hostile; every
// limit is checked before memory is spent.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "ckpt/result.h"
#include "format/message_head.h"

namespace agent {

enum class MessageType : std::uint16_t { hello = 1, memory = 2, sizes = 65, ready = 66, done = 67, refuse = 68 };

inline constexpr std::size_t wire_header_bytes = ckpt::message_head_bytes;
inline constexpr std::size_t wire_blocks_limit = 1024;
inline constexpr std::size_t wire_name_limit = 255;
inline constexpr std::size_t wire_reason_limit = 1024;
// HELLO of 1,024 blocks with the longest names.
inline constexpr std::size_t wire_payload_limit = 32 + wire_blocks_limit * (4 * 8 + 2 + wire_name_limit);

struct MessageHeader {
  MessageType type = MessageType::hello;
  std::uint32_t length = 0;
  std::uint32_t sequence = 0;
};

// One migratable RAM block of QEMU; the address is that in QEMU's own address space.
struct RamBlock {
  std::string name;
  std::uint64_t host_address = 0;
  std::uint64_t used_length = 0;
  std::uint64_t max_length = 0;
  std::uint64_t page_size = 0;

  bool operator==(const RamBlock&) const = default;
};

enum class Phase : std::uint32_t { fresh = 0, registered = 1 };

struct Hello {
  Phase phase = Phase::fresh;
  std::array<std::uint8_t, 16> instance{};
  std::vector<RamBlock> blocks;
};

struct RamBlockSize {
  std::string name;
  std::uint64_t used_length = 0;
};

// `bytes` has wire_header_bytes. Takes only what QEMU may send.
ckpt::Result<MessageHeader> decode_header(ckpt::ByteView bytes);
ckpt::Result<Hello> decode_hello(ckpt::ByteView payload);
ckpt::Result<std::vector<RamBlock>> decode_memory(ckpt::ByteView payload);

ckpt::Bytes encode_sizes(std::uint32_t sequence, const std::vector<RamBlockSize>& sizes);
ckpt::Bytes encode_refuse(std::uint32_t sequence, std::string_view reason);
ckpt::Bytes encode_empty(std::uint32_t sequence, MessageType type);  // ready, done

}  // namespace agent
