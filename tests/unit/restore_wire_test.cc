// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The agent's codecs against golden bytes and against bytes that break a rule.
#include <gtest/gtest.h>

#include "format/utf8.h"
#include "golden.h"
#include "wire.h"
#include "working_set.h"

namespace agent {
namespace {

using ckpt::Bytes;
using ckpt::ByteView;
using ckpt::ByteWriter;

void expect_golden(const std::string& name, const Bytes& bytes) {
  ckpt::expect_golden("restore/" + name + ".bin", bytes);
}

RamBlock example_block(const std::string& name, std::uint64_t address) {
  return {name, address, 0x200000, 0x400000, 4096};
}

Bytes table_of(const std::vector<RamBlock>& blocks) {
  Bytes out;
  ByteWriter writer(out);
  writer.u32(static_cast<std::uint32_t>(blocks.size()));
  writer.u32(0);
  for (const RamBlock& block : blocks) {
    writer.u64(block.host_address);
    writer.u64(block.used_length);
    writer.u64(block.max_length);
    writer.u64(block.page_size);
    writer.string(block.name);
  }
  return out;
}

Bytes hello_of(std::uint32_t version, std::uint32_t phase, const std::vector<RamBlock>& blocks) {
  Bytes out;
  ByteWriter writer(out);
  writer.u32(version);
  writer.u32(phase);
  for (std::uint8_t i = 0; i < 16; ++i) writer.u8(i);
  writer.bytes(table_of(blocks));
  return out;
}

const std::vector<RamBlock> two_blocks = {example_block("pc.ram", 0x7f0000000000),
                                          example_block("/rom@etc/acpi/tables", 0x7f1000000000)};

TEST(RestoreWire, HelloIsReadAsItWasWritten) {
  Bytes bytes = hello_of(1, 0, two_blocks);
  expect_golden("hello", bytes);
  auto hello = decode_hello(bytes);
  ASSERT_TRUE(hello.ok()) << hello.error().message();
  EXPECT_EQ(hello->phase, Phase::fresh);
  EXPECT_EQ(hello->blocks, two_blocks);
  EXPECT_EQ(hello->instance[15], 15);
}

TEST(RestoreWire, OurMessagesAreTheGoldenOnes) {
  expect_golden("sizes", encode_sizes(0, {{"pc.ram", 0x200000}, {"/rom@etc/acpi/tables", 0x20000}}));
  expect_golden("ready", encode_empty(1, MessageType::ready));
  expect_golden("done", encode_empty(2, MessageType::done));
  expect_golden("refuse", encode_refuse(0, "no such machine: start the one that was saved"));
}

TEST(RestoreWire, AReasonIsCutToItsLimit) {
  Bytes bytes = encode_refuse(0, std::string(5000, 'x'));
  EXPECT_EQ(bytes.size(), wire_header_bytes + 2 + wire_reason_limit);
  // Between characters: a reader that insists on UTF-8 would take none of it.
  for (std::size_t before = 0; before < 4; ++before) {
    std::string reason(before, 'x');
    while (reason.size() < 2000) reason += "\xF0\x9F\x98\x80";
    bytes = encode_refuse(0, reason);
    std::string_view sent(reinterpret_cast<const char*>(bytes.data()) + wire_header_bytes + 2,
                          bytes.size() - wire_header_bytes - 2);
    EXPECT_TRUE(ckpt::is_utf8(sent)) << before;
    EXPECT_GT(sent.size(), wire_reason_limit - 4);
    EXPECT_LE(sent.size(), wire_reason_limit);
  }
}

TEST(RestoreWire, EveryTruncationIsRefused) {
  Bytes hello = hello_of(1, 1, two_blocks), table = table_of(two_blocks);
  for (std::size_t n = 0; n < hello.size(); ++n) EXPECT_FALSE(decode_hello(ByteView(hello).first(n)).ok()) << n;
  for (std::size_t n = 0; n < table.size(); ++n) EXPECT_FALSE(decode_memory(ByteView(table).first(n)).ok()) << n;
  table.push_back(0);
  EXPECT_FALSE(decode_memory(table).ok());
}

TEST(RestoreWire, ANewerVersionIsNamed) {
  auto hello = decode_hello(hello_of(2, 0, two_blocks));
  ASSERT_FALSE(hello.ok());
  EXPECT_EQ(hello.error().code, ckpt::Code::version);
  EXPECT_FALSE(decode_hello(hello_of(1, 2, two_blocks)).ok());
}

TEST(RestoreWire, BlocksThatCannotBeFilledAreRefused) {
  auto refused = [](auto change) {
    RamBlock block = example_block("a", 0x10000000);
    change(block);
    return !decode_memory(table_of({block})).ok();
  };
  EXPECT_FALSE(refused([](RamBlock&) {}));
  EXPECT_TRUE(refused([](RamBlock& b) { b.name.clear(); }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.name = std::string(256, 'a'); }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.name = std::string("a\0b", 3); }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.name = "a\x1B[2J"; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.name = "a\xC0\xAF"; }));
  EXPECT_FALSE(refused([](RamBlock& b) { b.name = "Gerät"; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.page_size = 0; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.page_size = 2048; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.page_size = 12288; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.page_size = 1ull << 40; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.used_length = 0; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.used_length += 4; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.max_length += 4; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.used_length = b.max_length + 4096; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.max_length = 1ull << 47; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.host_address += 1; }));
  EXPECT_TRUE(refused([](RamBlock& b) { b.host_address = UINT64_MAX - 4095; }));
}

TEST(RestoreWire, BlocksThatOverlapOrRepeatAreRefused) {
  EXPECT_FALSE(decode_memory(table_of({example_block("a", 0x1000000), example_block("b", 0x1100000)})).ok());
  EXPECT_FALSE(decode_memory(table_of({example_block("a", 0x1000000), example_block("a", 0x9000000)})).ok());
  // What a block may grow to is its own.
  EXPECT_FALSE(decode_memory(table_of({example_block("a", 0x1000000), example_block("b", 0x1200000)})).ok());
  EXPECT_TRUE(decode_memory(table_of({example_block("a", 0x1000000), example_block("b", 0x1400000)})).ok());
  EXPECT_FALSE(decode_memory(table_of({})).ok());
  std::vector<RamBlock> many;
  for (std::uint64_t i = 0; i <= wire_blocks_limit; ++i)
    many.push_back(example_block("b" + std::to_string(i), 0x10000000 + i * 0x1000000));
  EXPECT_FALSE(decode_memory(table_of(many)).ok());
  many.pop_back();
  EXPECT_TRUE(decode_memory(table_of(many)).ok());
}

TEST(RestoreWire, AHeadIsCheckedBeforeItsPayloadIsRead) {
  Bytes head = encode_empty(3, MessageType::ready);
  EXPECT_FALSE(decode_header(head).ok());  // ours, not QEMU's
  head[4] = 1;
  auto good = decode_header(head);
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good->sequence, 3u);
  for (std::size_t at : {0u, 3u, 5u, 6u, 8u, 15u, 19u}) {
    Bytes bad = head;
    bad[at] ^= 0x40;
    EXPECT_FALSE(decode_header(bad).ok()) << at;
  }
}

TEST(WorkingSet, IsReadAsItWasWritten) {
  std::vector<WorkingSetPage> pages = {{"pc.ram", 7}, {"vga.vram", 0}, {"pc.ram", 1ull << 40}};
  Bytes bytes = encode_working_set(pages);
  expect_golden("working_set", bytes);
  auto read = decode_working_set(bytes);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(*read, pages);
  EXPECT_TRUE(decode_working_set(encode_working_set({})).ok());
}

TEST(WorkingSet, EveryFlippedBitAndEveryTruncationIsFound) {
  Bytes bytes = encode_working_set({{"pc.ram", 7}, {"vga.vram", 3}});
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes bad = bytes;
    bad[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(decode_working_set(bad).ok()) << bit;
  }
  for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode_working_set(ByteView(bytes).first(n)).ok()) << n;
}

}  // namespace
}  // namespace agent
