// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whatever QEMU's socket or a working set holds, it is refused or understood; what is understood keeps the rules.
#include <cstdio>
#include <cstdlib>

// The agent is no library; these are its parsers, whole.
#include "restore-agent/wire.cc"
#include "restore-agent/working_set.cc"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const std::vector<agent::RamBlock>& blocks) {
  require(!blocks.empty() && blocks.size() <= agent::wire_blocks_limit);
  for (const agent::RamBlock& block : blocks) {
    require(block.page_size >= 4096 && block.used_length % block.page_size == 0);
    require(block.max_length % block.page_size == 0 && block.used_length <= block.max_length);
    require(block.host_address + block.max_length > block.host_address);
    require(ckpt::is_utf8(block.name) && !ckpt::has_control_characters(block.name));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ckpt::ByteView bytes(data, size);
  if (auto header = agent::decode_header(bytes.first(std::min(size, agent::wire_header_bytes))); header.ok())
    require(header->length <= agent::wire_payload_limit);
  if (auto hello = agent::decode_hello(bytes); hello.ok()) check(hello->blocks);
  if (auto blocks = agent::decode_memory(bytes); blocks.ok()) check(*blocks);
  if (auto pages = agent::decode_working_set(bytes); pages.ok()) {
    auto again = agent::decode_working_set(agent::encode_working_set(*pages));
    require(again.ok() && *again == *pages);
  }
  return 0;
}
