// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Every decoder of the store's files, once with the bytes as they come and once with their checksums put right, as only
// then what is behind the checksum is reached. What is taken must be written and read again as the same.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/hash.h"
#include "format/compress.h"
#include "format/journal.h"
#include "format/manifest.h"
#include "format/segment.h"

namespace ckpt {
namespace {

constexpr std::uint64_t segment_id = 3;
constexpr std::uint64_t footer_offset = 1 << 20;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

void try_record(ByteView bytes) {
  auto parsed = decode_record(bytes);
  if (!parsed.ok()) return;
  require(parsed->total_bytes <= bytes.size(), "a record is inside its input");
  Bytes once, twice;
  encode_record(once, parsed->sequence, parsed->record);
  auto again = decode_record(once);
  require(again.ok(), "a record that was read can be written and read");
  encode_record(twice, again->sequence, again->record);
  require(once == twice, "a record stays the same");
}

// The input's first byte is the type, the rest the body.
Bytes repaired_record(ByteView input) {
  Bytes record;
  ByteWriter writer(record);
  writer.u32(journal_magic);
  writer.u32(static_cast<std::uint32_t>(input.size() - 1));
  writer.u64(7);
  writer.u16(input[0] % 10);
  writer.zeroes(6);
  Bytes head = record;
  head.resize(record_head_bytes);
  writer.u64(checksum(head, input.subspan(1), 0));
  writer.bytes(input.subspan(1));
  writer.zeroes((8 - record.size() % 8) % 8);
  return record;
}

void try_manifest(ByteView bytes) {
  auto manifest = decode_manifest(bytes);
  if (!manifest.ok()) return;
  Bytes once;
  encode_manifest(once, *manifest);
  auto again = decode_manifest(once);
  require(again.ok(), "a manifest that was read can be written and read");
  Bytes twice;
  encode_manifest(twice, *again);
  require(once == twice, "a manifest stays the same");
}

// Puts right the checksum of a frame's head; returns the bytes of head and table, 0 when there is no whole one.
std::size_t repair_frame(std::span<std::uint8_t> bytes, std::uint64_t seed) {
  if (bytes.size() < frame_head_bytes) return 0;
  store_le(bytes.data(), frame_magic);
  std::size_t end = frame_head_bytes + load_le<std::uint16_t>(bytes.data() + 6) * frame_entry_bytes;
  if (end > bytes.size()) return 0;
  store_le(bytes.data() + 24, checksum(bytes.first(24), bytes.subspan(frame_head_bytes, end - frame_head_bytes), seed));
  return end;
}

void try_frame(ByteView bytes) {
  auto head = decode_frame_head(bytes, frame_seed(segment_id, 64));
  if (!head.ok()) return;
  require(head->table.size() <= max_frame_chunks && head->raw_length <= max_frame_raw_bytes, "a frame is bounded");
  if (head->total_bytes() > bytes.size()) return;
  ByteView payload = bytes.subspan(head->payload_offset(), head->stored_length);
  (void)check_payload(*head, payload, frame_seed(segment_id, 64));
  Bytes raw(head->raw_length);
  (void)decompress(head->codec, payload, raw);
}

void try_footer(Bytes footer, bool repair) {
  for (std::size_t at = 0; repair && at + 8 < footer.size();) {
    std::uint64_t offset = load_le<std::uint64_t>(footer.data() + at);
    std::size_t length = repair_frame(std::span(footer).subspan(at + 8), frame_seed(segment_id, offset));
    if (length == 0) break;
    at += 8 + length;
  }
  std::size_t length = footer.size();
  append_trailer(footer, footer_offset);
  auto trailer = decode_trailer(ByteView(footer).subspan(length), footer_offset + footer.size());
  require(trailer.has_value(), "a trailer is read back");
  auto frames = decode_footer(ByteView(footer).first(length), *trailer, segment_id);
  std::uint64_t end = segment_header_bytes;
  for (const PlacedFrame& frame : frames.ok() ? *frames : std::vector<PlacedFrame>()) {
    require(frame.offset >= end, "frames do not overlap");
    end = frame.offset + frame.head.total_bytes();
    require(end <= footer_offset, "frames lie before the footer");
  }
}

// Its header's body is the input; behind it lie the IDs.
void try_segment_list(ByteView input) {
  constexpr std::size_t body_bytes = 40;
  if (input.size() < body_bytes) return;
  Bytes list;
  encode_segment_list(list, {}, {});
  Bytes file;
  encode_file_header(file, "CKPTBAD1", 1, input.first(body_bytes));
  ByteWriter writer(file);
  writer.bytes(input.subspan(body_bytes));
  writer.u64(checksum(input.subspan(body_bytes)));
  StoreUuid uuid{};
  std::copy_n(input.begin(), uuid.size(), uuid.begin());
  auto ids = decode_segment_list(file, uuid);
  if (!ids.ok()) return;
  Bytes once;
  encode_segment_list(once, uuid, *ids);
  auto again = decode_segment_list(once, uuid);
  require(again.ok() && *again == *ids, "a list of segments stays the same");
}

}  // namespace
}  // namespace ckpt

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ckpt;
  ByteView input(data, size);
  Bytes copy(input.begin(), input.end());
  (void)decode_journal_header(input);
  (void)decode_segment_header(input);
  try_segment_list(input);
  (void)decode_trailer(input, size);
  (void)decode_trailer(input.last(std::min(size, segment_trailer_bytes)), size);
  try_record(input);
  if (size != 0 && size <= max_record_body_bytes) try_record(repaired_record(input));
  try_manifest(input);
  try_footer(copy, false);
  try_footer(copy, true);
  try_frame(copy);
  repair_frame(copy, frame_seed(segment_id, 64));
  try_frame(copy);
  return 0;
}
