// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire.h"

#include <algorithm>
#include <set>

#include "format/utf8.h"

namespace agent {

using ckpt::ByteReader;
using ckpt::Bytes;
using ckpt::ByteView;
using ckpt::ByteWriter;
using ckpt::Code;
using ckpt::make_error;
using ckpt::Result;

namespace {

constexpr std::uint32_t magic = 0x52504B43;  // "CKPR"
constexpr std::uint32_t protocol_version = 1;
constexpr std::uint64_t block_length_limit = 1ull << 46;
constexpr std::uint64_t page_size_limit = 1ull << 30;

bool is_power_of_two(std::uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

// A block we can fill: whole pages, at a place that does not wrap around. Its name goes into logs and answers.
bool is_sound(const RamBlock& block) {
  if (block.name.empty() || !ckpt::is_utf8(block.name) || ckpt::has_control_characters(block.name)) return false;
  if (!is_power_of_two(block.page_size) || block.page_size < 4096 || block.page_size > page_size_limit) return false;
  std::uint64_t mask = block.page_size - 1;
  if ((block.host_address | block.used_length | block.max_length) & mask) return false;
  if (block.used_length == 0 || block.used_length > block.max_length) return false;
  if (block.max_length > block_length_limit) return false;
  return block.host_address <= UINT64_MAX - block.max_length;
}

bool overlap(std::vector<RamBlock> blocks) {
  std::sort(blocks.begin(), blocks.end(),
            [](const RamBlock& a, const RamBlock& b) { return a.host_address < b.host_address; });
  for (std::size_t i = 1; i < blocks.size(); ++i)
    if (blocks[i - 1].host_address + blocks[i - 1].max_length > blocks[i].host_address) return true;
  return false;
}

Result<std::vector<RamBlock>> read_blocks(ByteReader& in) {
  std::uint32_t count = in.u32();
  if (in.u32() != 0 || !in.ok() || count == 0 || count > wire_blocks_limit)
    return make_error(Code::protocol, "a table of more than 1,024 RAM blocks, or none");
  std::vector<RamBlock> blocks;
  std::set<std::string> names;
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    RamBlock block;
    block.host_address = in.u64();
    block.used_length = in.u64();
    block.max_length = in.u64();
    block.page_size = in.u64();
    block.name = in.string(wire_name_limit);
    if (!in.ok() || !is_sound(block) || !names.insert(block.name).second)
      return make_error(Code::protocol, "a malformed RAM block, number " + std::to_string(i));
    blocks.push_back(std::move(block));
  }
  if (!in.finished()) return make_error(Code::protocol, "a table of RAM blocks of the wrong length");
  if (overlap(blocks)) return make_error(Code::protocol, "RAM blocks that overlap");
  return blocks;
}

Bytes message(std::uint32_t sequence, MessageType type, ByteView payload) {
  Bytes out;
  ckpt::encode_message_head(
      out, magic, {static_cast<std::uint16_t>(type), 0, static_cast<std::uint32_t>(payload.size()), sequence});
  ByteWriter(out).bytes(payload);
  return out;
}

}  // namespace

Result<MessageHeader> decode_header(ByteView bytes) {
  CKPT_ASSIGN(ckpt::MessageHead head,
              ckpt::decode_message_head(bytes, magic, "what connected is not QEMU: wrong magic"));
  if (head.epoch != 0) return make_error(Code::protocol, "a message of the restore protocol names an epoch");
  MessageHeader header{static_cast<MessageType>(head.type), head.length, head.sequence};
  if (header.type != MessageType::hello && header.type != MessageType::memory)
    return make_error(Code::protocol, "unknown message type " + std::to_string(head.type));
  if (header.length > wire_payload_limit)
    return make_error(Code::protocol, "a message of " + std::to_string(header.length) + " bytes");
  return header;
}

Result<Hello> decode_hello(ByteView payload) {
  ByteReader in(payload);
  std::uint32_t version = in.u32();
  if (in.ok() && version != protocol_version)
    return make_error(Code::version, "QEMU speaks version " + std::to_string(version) +
                                         " of the restore protocol, this agent speaks 1");
  Hello hello;
  std::uint32_t phase = in.u32();
  in.copy_to(hello.instance);
  if (!in.ok() || phase > 1) return make_error(Code::protocol, "a malformed HELLO");
  hello.phase = static_cast<Phase>(phase);
  CKPT_ASSIGN(hello.blocks, read_blocks(in));
  return hello;
}

Result<std::vector<RamBlock>> decode_memory(ByteView payload) {
  ByteReader in(payload);
  return read_blocks(in);
}

Bytes encode_sizes(std::uint32_t sequence, const std::vector<RamBlockSize>& sizes) {
  Bytes payload;
  ByteWriter writer(payload);
  writer.u32(static_cast<std::uint32_t>(sizes.size()));
  writer.u32(0);
  for (const RamBlockSize& size : sizes) {
    writer.u64(size.used_length);
    writer.string(size.name);
  }
  return message(sequence, MessageType::sizes, payload);
}

Bytes encode_refuse(std::uint32_t sequence, std::string_view reason) {
  Bytes payload;
  ByteWriter writer(payload);
  writer.string(ckpt::utf8_prefix(reason, wire_reason_limit));
  return message(sequence, MessageType::refuse, payload);
}

Bytes encode_empty(std::uint32_t sequence, MessageType type) { return message(sequence, type, {}); }

}  // namespace agent
