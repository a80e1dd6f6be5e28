// SPDX-License-Identifier: LGPL-2.1-or-later
#include "base/bytes.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "ckpt/result.h"

namespace ckpt {
namespace {

TEST(Bytes, WhatIsWrittenIsRead) {
  Bytes bytes;
  ByteWriter writer(bytes);
  writer.u8(1);
  writer.u16(0x0203);
  writer.u32(0x04050607);
  writer.u64(0x08090A0B0C0D0E0F);
  writer.string("name");
  EXPECT_EQ(bytes[1], 0x03);  // little-endian
  ByteReader reader(bytes);
  EXPECT_EQ(reader.u8(), 1);
  EXPECT_EQ(reader.u16(), 0x0203);
  EXPECT_EQ(reader.u32(), 0x04050607u);
  EXPECT_EQ(reader.u64(), 0x08090A0B0C0D0E0Fu);
  EXPECT_EQ(reader.string(), "name");
  EXPECT_TRUE(reader.finished());
}

TEST(Bytes, ReadingPastTheEndFailsForGood) {
  Bytes bytes{1, 2, 3};
  ByteReader reader(bytes);
  EXPECT_EQ(reader.u32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.u8(), 0);
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.finished());
}

TEST(Bytes, AStringOverItsLimitFails) {
  Bytes bytes;
  ByteWriter(bytes).string("four");
  ByteReader reader(bytes);
  (void)reader.string(3);
  EXPECT_FALSE(reader.ok());
}

TEST(Hash, ChunkHashNeedsTheSecret) {
  Bytes page(4096, 7);
  Secret one{}, other{};
  for (std::size_t i = 0; i < one.size(); ++i) one[i] = static_cast<std::uint8_t>(i);
  for (std::size_t i = 0; i < other.size(); ++i) other[i] = static_cast<std::uint8_t>(255 - i);
  EXPECT_EQ(chunk_hash(page, one), chunk_hash(page, one));
  EXPECT_NE(chunk_hash(page, one), chunk_hash(page, other));
}

TEST(Hash, TwoPiecesAreAsOne) {
  Bytes whole{1, 2, 3, 4, 5};
  EXPECT_EQ(checksum(ByteView(whole).first(2), ByteView(whole).subspan(2), 9), checksum(whole, 9));
}

TEST(Hash, ZeroIsSeen) {
  Bytes page(4096, 0);
  EXPECT_TRUE(is_zero(page));
  page[4095] = 1;
  EXPECT_FALSE(is_zero(page));
}

TEST(ResultDeathTest, AskingForWhatIsNotThereEndsTheProcess) {
  Result<int> value = 1, error = make_error(Code::invalid, "no");
  Status good, bad = make_error(Code::invalid, "no");
  EXPECT_DEATH((void)*error, "the value of an error");
  EXPECT_DEATH((void)error.take(), "the value of an error");
  EXPECT_DEATH((void)value.error(), "the error of a success");
  EXPECT_DEATH((void)good.error(), "the error of a success");
  EXPECT_EQ(*value, 1);
  EXPECT_EQ(bad.error().code, Code::invalid);
}

}  // namespace
}  // namespace ckpt
