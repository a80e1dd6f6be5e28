// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/segment.h"

#include <algorithm>

#include "base/hash.h"

namespace ckpt {

namespace {

constexpr std::string_view header_magic = "CKPTSEG1";
constexpr std::string_view list_magic = "CKPTBAD1";
constexpr std::uint32_t list_version = 1;
constexpr std::string_view trailer_magic = "CKPTSEGF";
constexpr std::size_t trailer_checksummed_bytes = 24;

}  // namespace

void encode_segment_header(Bytes& out, const SegmentHeader& header) {
  Bytes body;
  ByteWriter writer(body);
  writer.u64(header.segment);
  writer.bytes(header.uuid);
  writer.u64(header.generation);
  encode_file_header(out, header_magic, segment_version, body);
}

Result<SegmentHeader> decode_segment_header(ByteView bytes) {
  CKPT_ASSIGN(ByteView body, decode_file_header(bytes, header_magic, segment_version, "segment"));
  ByteReader reader(body);
  SegmentHeader header;
  header.segment = reader.u64();
  reader.copy_to(header.uuid);
  header.generation = reader.u64();
  return header;
}

void encode_segment_list(Bytes& out, const StoreUuid& uuid, const std::vector<std::uint64_t>& ids) {
  Bytes body;
  ByteWriter head(body);
  head.bytes(uuid);
  head.u64(ids.size());
  encode_file_header(out, list_magic, list_version, body);
  std::size_t start = out.size();
  ByteWriter writer(out);
  for (std::uint64_t id : ids) writer.u64(id);
  writer.u64(checksum(ByteView(out).subspan(start)));
}

Result<std::vector<std::uint64_t>> decode_segment_list(ByteView bytes, const StoreUuid& uuid) {
  CKPT_ASSIGN(ByteView body, decode_file_header(bytes, list_magic, list_version, "list of segments"));
  ByteReader head(body);
  StoreUuid found{};
  head.copy_to(found);
  std::uint64_t count = head.u64();
  ByteView rest = bytes.subspan(file_header_bytes);
  bool whole = found == uuid && rest.size() >= 8 && rest.size() % 8 == 0 && rest.size() / 8 - 1 == count;
  if (!whole || load_le<std::uint64_t>(rest.data() + count * 8) != checksum(rest.first(count * 8))) {
    return make_error(Code::corrupt, "list of segments fails its checksum");
  }
  std::vector<std::uint64_t> ids;
  ByteReader reader(rest.first(count * 8));
  for (std::uint64_t i = 0; i < count; ++i) ids.push_back(reader.u64());
  if (!std::is_sorted(ids.begin(), ids.end())) return make_error(Code::corrupt, "list of segments is not sorted");
  return ids;
}

void append_footer_entry(Bytes& footer, std::uint64_t offset, ByteView head_and_table) {
  ByteWriter writer(footer);
  writer.u64(offset);
  writer.bytes(head_and_table);
}

void append_trailer(Bytes& footer, std::uint64_t footer_offset) {
  std::uint64_t length = footer.size();
  ByteWriter writer(footer);
  writer.bytes(as_bytes(trailer_magic));
  writer.u64(footer_offset);
  writer.u64(length);
  writer.u64(checksum(footer));
}

std::optional<SegmentTrailer> decode_trailer(ByteView bytes, std::uint64_t file_size) {
  ByteReader reader(bytes);
  if (!is_magic(reader.bytes(8), trailer_magic)) return std::nullopt;
  SegmentTrailer trailer;
  trailer.footer_offset = reader.u64();
  trailer.footer_length = reader.u64();
  trailer.checksum = reader.u64();
  if (!reader.finished() || file_size < segment_header_bytes + segment_trailer_bytes) return std::nullopt;
  std::uint64_t end = file_size - segment_trailer_bytes;
  if (trailer.footer_offset < segment_header_bytes || trailer.footer_offset > end ||
      trailer.footer_length != end - trailer.footer_offset) {
    return std::nullopt;
  }
  return trailer;
}

Result<std::vector<PlacedFrame>> decode_footer(ByteView footer, const SegmentTrailer& trailer, std::uint64_t segment) {
  Bytes head;
  ByteWriter writer(head);
  writer.bytes(as_bytes(trailer_magic));
  writer.u64(trailer.footer_offset);
  writer.u64(trailer.footer_length);
  static_assert(trailer_checksummed_bytes == 24);
  if (checksum(footer, head, 0) != trailer.checksum) return make_error(Code::corrupt, "footer fails its checksum");
  std::vector<PlacedFrame> frames;
  frames.reserve(footer.size() / (8 + frame_head_bytes + 4 * frame_entry_bytes));
  std::uint64_t free_from = segment_header_bytes;
  std::uint32_t next_ordinal = 0;
  while (!footer.empty()) {
    PlacedFrame frame;
    ByteReader reader(footer);
    frame.offset = reader.u64();
    if (!reader.ok()) return make_error(Code::corrupt, "footer is cut short");
    CKPT_ASSIGN(frame.head, decode_frame_head(reader.rest(), frame_seed(segment, frame.offset)));
    bool in_order = frame.offset >= free_from && frame.head.table.front().ordinal >= next_ordinal;
    if (!in_order || frame.offset > trailer.footer_offset ||
        frame.head.total_bytes() > trailer.footer_offset - frame.offset) {
      return make_error(Code::corrupt, "footer names a frame out of range");
    }
    free_from = frame.offset + frame.head.total_bytes();
    next_ordinal = frame.head.table.back().ordinal + 1;
    footer = footer.subspan(8 + frame.head.payload_offset());
    frames.push_back(std::move(frame));
  }
  return frames;
}

}  // namespace ckpt
