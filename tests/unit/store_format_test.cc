// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The store's files against golden bytes.
#include <gtest/gtest.h>

#include "base/hash.h"
#include "format/journal.h"
#include "format/manifest.h"
#include "format/node.h"
#include "format/segment.h"
#include "unit/golden.h"

namespace ckpt {
namespace {

constexpr std::uint64_t segment_id = 3;

StoreUuid uuid() {
  StoreUuid id{};
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::uint8_t>(i + 1);
  return id;
}

FrameHead some_frame(std::uint32_t first, Bytes& payload) {
  FrameHead head;
  payload.assign(4096 + 512, static_cast<std::uint8_t>(first + 1));
  head.raw_length = head.stored_length = static_cast<std::uint32_t>(payload.size());
  for (std::uint32_t i = 0; i < 2; ++i) {
    ChunkEntry entry{first + i, i == 0 ? 4096u : 512u, {}};
    entry.hash.bytes[0] = static_cast<std::uint8_t>(first + i);
    head.table.push_back(entry);
  }
  return head;
}

Bytes some_segment() {
  Bytes bytes, payload, footer;
  encode_segment_header(bytes, {segment_id, uuid(), 1});
  for (std::uint32_t first : {0u, 5u}) {
    FrameHead head = some_frame(first, payload);
    std::uint64_t offset = bytes.size();
    encode_frame_head(bytes, head, payload, frame_seed(segment_id, offset));
    append_footer_entry(footer, offset, ByteView(bytes).subspan(offset));
    bytes.insert(bytes.end(), payload.begin(), payload.end());
  }
  append_trailer(footer, bytes.size());
  bytes.insert(bytes.end(), footer.begin(), footer.end());
  return bytes;
}

std::vector<JournalRecord> all_records() {
  CommitRecord commit{1, 2, 7, 6, 123, make_location(segment_id, 5), 4000, true, false, uuid(), 1000, 500};
  return {MachineRecord{1, 2, uuid(), 99, "vm"},
          DomainRecord{2, {}},
          commit,
          RemoveRecord{1, {3, 4}},
          NameRecord{1, 7, "before"},
          PinRecord{1, true, 7, "x"},
          ForgetRecord{1},
          DroppedRecord{segment_id}};
}

Manifest some_manifest() {
  Manifest manifest{123, 456, RunState::paused, 789, "10.0.13", "pc-q35-10.0", {}};
  manifest.objects.push_back({{ObjectClass::ram, "pc.ram", 4ull << 30, 4096, 0}, 4, make_location(segment_id, 1)});
  manifest.objects.push_back({{ObjectClass::disk, "vda", 100'000, 0, 1}, 1, 0});
  manifest.objects.push_back({{ObjectClass::config, "config", 10, 0, 0}, 0, make_location(segment_id, 2)});
  return manifest;
}

TEST(StoreFormat, ASegmentIsAsItWas) {
  Bytes bytes = some_segment();
  expect_golden("store/segment.bin", bytes);
  auto header = decode_segment_header(bytes);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->generation, 1u);
  auto trailer = decode_trailer(ByteView(bytes).last(segment_trailer_bytes), bytes.size());
  ASSERT_TRUE(trailer.has_value());
  auto frames =
      decode_footer(ByteView(bytes).subspan(trailer->footer_offset, trailer->footer_length), *trailer, segment_id);
  ASSERT_TRUE(frames.ok()) << frames.error().message();
  ASSERT_EQ(frames->size(), 2u);
  EXPECT_EQ((*frames)[1].head.table[0].ordinal, 5u);
}

TEST(StoreFormat, AJournalIsAsItWas) {
  Bytes bytes;
  encode_journal_header(bytes, {uuid(), 40});
  std::uint64_t sequence = 40;
  for (const JournalRecord& record : all_records()) encode_record(bytes, sequence++, record);
  expect_golden("store/journal.bin", bytes);
  EXPECT_EQ(decode_journal_header(bytes)->first_sequence, 40u);
  std::size_t at = journal_header_bytes;
  for (std::uint64_t expected = 40; expected < sequence; ++expected) {
    auto parsed = decode_record(ByteView(bytes).subspan(at));
    ASSERT_TRUE(parsed.ok()) << parsed.error().message();
    EXPECT_EQ(parsed->sequence, expected);
    EXPECT_EQ(parsed->record.index(), expected - 40);
    at += parsed->total_bytes;
  }
  EXPECT_EQ(at, bytes.size());
}

TEST(StoreFormat, AManifestIsAsItWas) {
  Bytes bytes;
  encode_manifest(bytes, some_manifest());
  expect_golden("store/manifest.bin", bytes);
  auto back = decode_manifest(bytes);
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->objects[0].object.name, "pc.ram");
  EXPECT_EQ(back->objects[0].height, 4u);
  EXPECT_EQ(back->machine_type, "pc-q35-10.0");
}

TEST(StoreFormat, AListOfSegmentsIsAsItWas) {
  StoreUuid uuid{1, 2, 3};
  Bytes bytes;
  encode_segment_list(bytes, uuid, {1, 7, 0x1234});
  expect_golden("store/distrusted.bin", bytes);
  EXPECT_EQ(*decode_segment_list(bytes, uuid), (std::vector<std::uint64_t>{1, 7, 0x1234}));
  EXPECT_FALSE(decode_segment_list(bytes, StoreUuid{9}).ok());
  for (std::size_t n = 0; n < bytes.size(); ++n)
    EXPECT_FALSE(decode_segment_list(ByteView(bytes).first(n), uuid).ok()) << n;
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes bad = bytes;
    bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ 1u << bit % 8);
    EXPECT_FALSE(decode_segment_list(bad, uuid).ok()) << bit;
  }
  Bytes unsorted;
  encode_segment_list(unsorted, uuid, {7, 1});
  EXPECT_FALSE(decode_segment_list(unsorted, uuid).ok());
}

TEST(StoreFormat, NoCutOrFlippedRecordIsTaken) {
  for (const JournalRecord& record : all_records()) {
    Bytes bytes;
    encode_record(bytes, 1, record);
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      ASSERT_FALSE(decode_record(ByteView(bytes).first(length)).ok());
    }
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
      ASSERT_FALSE(decode_record(bytes).ok()) << "bit " << bit;
      bytes[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
    }
  }
}

TEST(StoreFormat, NoFlippedFrameIsTakenNorAFrameInTheWrongPlace) {
  Bytes bytes, payload;
  FrameHead head = some_frame(0, payload);
  encode_frame_head(bytes, head, payload, frame_seed(segment_id, 64));
  ASSERT_TRUE(decode_frame_head(bytes, frame_seed(segment_id, 64)).ok());
  EXPECT_FALSE(decode_frame_head(bytes, frame_seed(segment_id, 65)).ok());
  EXPECT_FALSE(decode_frame_head(bytes, frame_seed(segment_id + 1, 64)).ok());
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
    ASSERT_FALSE(decode_frame_head(bytes, frame_seed(segment_id, 64)).ok()) << "bit " << bit;
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
  }
}

TEST(StoreFormat, ManifestsOutOfRangeAreCorrupt) {
  Manifest wrong_height = some_manifest();
  wrong_height.objects[0].height = 6;
  Manifest twice = some_manifest();
  twice.objects.push_back(twice.objects[0]);
  Manifest huge = some_manifest();
  huge.objects[0].object.size_bytes = max_object_bytes + 1;
  for (const Manifest& manifest : {wrong_height, twice, huge}) {
    Bytes bytes;
    encode_manifest(bytes, manifest);
    auto back = decode_manifest(bytes);
    ASSERT_FALSE(back.ok());
    EXPECT_EQ(back.error().code, Code::corrupt);
  }
  Bytes bytes;
  encode_manifest(bytes, some_manifest());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    ASSERT_FALSE(decode_manifest(ByteView(bytes).first(length)).ok());
  }
  bytes[8] = 2;
  EXPECT_EQ(decode_manifest(bytes).error().code, Code::version);
}

TEST(StoreFormat, TreesAreAsHighAsTheyMustBe) {
  EXPECT_EQ(tree_height(0), 0u);
  EXPECT_EQ(tree_height(1), 0u);
  EXPECT_EQ(tree_height(2), 1u);
  EXPECT_EQ(tree_height(64), 1u);
  EXPECT_EQ(tree_height(65), 2u);
  EXPECT_EQ(tree_height(pages_of(4ull << 30)), 4u);
  EXPECT_EQ(tree_height(pages_of(max_object_bytes)), 6u);
}

}  // namespace
}  // namespace ckpt
