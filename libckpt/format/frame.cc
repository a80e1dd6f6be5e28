// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/frame.h"

#include "base/check.h"
#include "format/location.h"

namespace ckpt {

namespace {

constexpr std::size_t checksummed_head_bytes = 24;  // what is before the head's own checksum

}  // namespace

std::uint64_t frame_seed(std::uint64_t segment, std::uint64_t offset) { return (segment << 32) ^ offset; }

void encode_frame_head(Bytes& out, FrameHead& head, ByteView payload, std::uint64_t seed) {
  CKPT_CHECK(!head.table.empty() && head.table.size() <= max_frame_chunks);
  CKPT_CHECK(payload.size() == head.stored_length);
  head.payload_checksum = checksum(payload, seed);
  std::size_t start = out.size();
  ByteWriter writer(out);
  writer.u32(frame_magic);
  writer.u16(static_cast<std::uint16_t>(head.codec));
  writer.u16(static_cast<std::uint16_t>(head.table.size()));
  writer.u32(head.raw_length);
  writer.u32(head.stored_length);
  writer.u64(head.payload_checksum);
  std::size_t checksum_at = writer.offset();
  writer.u64(0);
  for (const ChunkEntry& entry : head.table) {
    writer.u32(entry.ordinal);
    writer.u32(entry.length);
    writer.bytes(entry.hash.bytes);
  }
  ByteView written = ByteView(out).subspan(start);
  writer.patch_u64(checksum_at,
                   checksum(written.first(checksummed_head_bytes), written.subspan(frame_head_bytes), seed));
}

Result<FrameHead> decode_frame_head(ByteView bytes, std::uint64_t seed) {
  ByteReader reader(bytes);
  FrameHead head;
  std::uint32_t magic = reader.u32();
  std::uint16_t codec = reader.u16();
  std::size_t count = reader.u16();
  head.raw_length = reader.u32();
  head.stored_length = reader.u32();
  head.payload_checksum = reader.u64();
  std::uint64_t head_checksum = reader.u64();
  if (!reader.ok() || magic != frame_magic) return make_error(Code::corrupt, "no frame");
  if (count == 0 || count > max_frame_chunks) return make_error(Code::corrupt, "frame with a wrong count");
  ByteView table = reader.bytes(count * frame_entry_bytes);
  if (!reader.ok() || checksum(bytes.first(checksummed_head_bytes), table, seed) != head_checksum) {
    return make_error(Code::corrupt, "frame head fails its checksum");
  }
  if (codec > static_cast<std::uint16_t>(Codec::zstd)) return make_error(Code::version, "frame of an unknown codec");
  head.codec = static_cast<Codec>(codec);
  ByteReader entries(table);
  head.table.reserve(count);
  std::uint64_t raw = 0;
  for (std::size_t i = 0; i < count; ++i) {
    ChunkEntry entry;
    entry.ordinal = entries.u32();
    entry.length = entries.u32();
    entries.copy_to(entry.hash.bytes);
    bool rises = i == 0 || entry.ordinal > head.table.back().ordinal;
    if (entry.length == 0 || entry.length > max_chunk_bytes || entry.ordinal > max_ordinal || !rises) {
      return make_error(Code::corrupt, "frame table out of range");
    }
    raw += entry.length;
    head.table.push_back(entry);
  }
  if (raw != head.raw_length || head.stored_length == 0 || head.stored_length > raw ||
      (head.codec == Codec::stored && head.stored_length != raw)) {
    return make_error(Code::corrupt, "frame lengths do not agree");
  }
  return head;
}

Status check_payload(const FrameHead& head, ByteView payload, std::uint64_t seed) {
  if (payload.size() != head.stored_length || checksum(payload, seed) != head.payload_checksum) {
    return make_error(Code::corrupt, "frame payload fails its checksum");
  }
  return {};
}

}  // namespace ckpt
