// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>

#include "store/frame_builder.h"
#include "store/segment_file.h"

namespace ckpt {

inline constexpr std::uint32_t max_segment_chunks = 1u << 16;
static_assert(max_segment_chunks <= max_ordinal);

// A segment that grows. Frames gather in memory and go to the blob a megabyte at a time; until then they are read from
// here. Not thread-safe, except blob() for reading and syncing.
class SegmentWriter {
public:
  static Result<std::shared_ptr<SegmentWriter>> create(Backend& backend, const std::string& name,
                                                       const SegmentHeader& header, std::uint64_t serial);

  std::uint64_t id() const { return header_.segment; }
  std::uint64_t serial() const { return serial_; }
  std::uint64_t generation() const { return header_.generation; }
  const std::shared_ptr<Blob>& blob() const { return blob_; }
  const FrameTable& table() const { return table_; }
  std::uint64_t size() const { return flushed_ + buffer_.size(); }
  // Bounds the footer, which whoever reads one chunk of a cold segment has to load.
  bool has_room_for(std::size_t chunks) const { return table_.next_ordinal() + chunks <= max_segment_chunks; }

  // Appends a frame; its chunks get the next ordinals, or keep what they have when `keep_ordinals`. Returns the bytes
  // added. Memory only, until the buffer is full.
  Result<std::size_t> append(FrameDraft& draft, bool keep_ordinals = false);
  Status flush();
  // Bytes of a frame that may not have been flushed; empty when it has.
  ByteView buffered(const FrameTable::Frame& frame) const;

  // What has been synced: written by whoever synced blob() after flush().
  std::uint64_t durable_bytes() const { return durable_; }
  void set_durable(std::uint64_t bytes) { durable_ = std::max(durable_, bytes); }
  // Somebody is at it: nobody else does.
  bool syncing() const { return syncing_; }
  void set_syncing(bool syncing) { syncing_ = syncing; }
  // Forgets what is not durable. The writer is of no further use.
  FrameTable give_up();

  // Appends footer and trailer; nothing can follow.
  Status seal();
  FrameTable take_table() { return std::move(table_); }

private:
  SegmentWriter(std::shared_ptr<Blob> blob, const SegmentHeader& header, std::uint64_t serial)
      : blob_(std::move(blob)), header_(header), serial_(serial) {}

  std::shared_ptr<Blob> blob_;
  SegmentHeader header_;
  std::uint64_t serial_;
  FrameTable table_;
  Bytes footer_;
  Bytes buffer_;
  std::uint64_t flushed_ = 0;
  std::uint64_t durable_ = 0;
  bool syncing_ = false;
};

}  // namespace ckpt
