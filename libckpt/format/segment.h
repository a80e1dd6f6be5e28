// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A segment's header and footer. doc/store_format.md, "Segment".
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "ckpt/result.h"
#include "format/file_header.h"
#include "format/frame.h"
#include "format/location.h"

namespace ckpt {

inline constexpr std::size_t segment_header_bytes = file_header_bytes;
inline constexpr std::size_t segment_trailer_bytes = 32;
inline constexpr std::uint32_t segment_version = 1;

struct SegmentHeader {
  std::uint64_t segment = 0;
  StoreUuid uuid{};
  std::uint64_t generation = 0;
};

void encode_segment_header(Bytes& out, const SegmentHeader& header);
Result<SegmentHeader> decode_segment_header(ByteView bytes);

// The file of segments that are not trusted; `ids` are sorted. corrupt, version: it may speak of any.
void encode_segment_list(Bytes& out, const StoreUuid& uuid, const std::vector<std::uint64_t>& ids);
Result<std::vector<std::uint64_t>> decode_segment_list(ByteView bytes, const StoreUuid& uuid);

// The end of a sealed segment: says where its footer is.
struct SegmentTrailer {
  std::uint64_t footer_offset = 0;
  std::uint64_t footer_length = 0;
  std::uint64_t checksum = 0;
};

// Appends one frame's entry to a footer under construction: its offset, and its head and table as they are on disk.
void append_footer_entry(Bytes& footer, std::uint64_t offset, ByteView head_and_table);

// Appends the trailer to a whole footer that will lie at `footer_offset`.
void append_trailer(Bytes& footer, std::uint64_t footer_offset);

// Empty when these are not a trailer's bytes, so the segment is not sealed.
std::optional<SegmentTrailer> decode_trailer(ByteView bytes, std::uint64_t file_size);

struct PlacedFrame {
  std::uint64_t offset = 0;
  FrameHead head;
};

// `footer` without its trailer. Frames are in the order of their offsets and inside the space before the footer.
Result<std::vector<PlacedFrame>> decode_footer(ByteView footer, const SegmentTrailer& trailer, std::uint64_t segment);

}  // namespace ckpt
