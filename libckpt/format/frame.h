// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A frame: 1 to 64 chunks compressed together. doc/store_format.md, "Segment".
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "ckpt/result.h"

namespace ckpt {

inline constexpr std::uint32_t frame_magic = 0x4D524643;
inline constexpr std::size_t frame_head_bytes = 32;
inline constexpr std::size_t frame_entry_bytes = 24;
inline constexpr std::size_t max_frame_chunks = 64;
inline constexpr std::size_t max_chunk_bytes = 4096;
inline constexpr std::size_t max_frame_raw_bytes = max_frame_chunks * max_chunk_bytes;
inline constexpr std::size_t max_frame_table_end = frame_head_bytes + max_frame_chunks * frame_entry_bytes;

enum class Codec : std::uint16_t { stored = 0, zstd = 1 };

struct ChunkEntry {
  std::uint32_t ordinal = 0;
  std::uint32_t length = 0;
  ChunkHash hash;

  bool operator==(const ChunkEntry&) const = default;
};

// The frame without its payload.
struct FrameHead {
  Codec codec = Codec::stored;
  std::uint32_t raw_length = 0;
  std::uint32_t stored_length = 0;
  std::uint64_t payload_checksum = 0;
  std::vector<ChunkEntry> table;  // ordinals rise

  std::size_t payload_offset() const { return frame_head_bytes + table.size() * frame_entry_bytes; }
  std::size_t total_bytes() const { return payload_offset() + stored_length; }
};

// A frame belongs to one offset of one segment: a whole frame in the wrong place is not taken for the right one.
std::uint64_t frame_seed(std::uint64_t segment, std::uint64_t offset);

// Appends the frame's head and table; the payload follows as it is. Fills in head.payload_checksum.
void encode_frame_head(Bytes& out, FrameHead& head, ByteView payload, std::uint64_t seed);

// `bytes` starts at the frame and has at least its head and table. Everything is checked but the payload.
Result<FrameHead> decode_frame_head(ByteView bytes, std::uint64_t seed);

Status check_payload(const FrameHead& head, ByteView payload, std::uint64_t seed);

}  // namespace ckpt
