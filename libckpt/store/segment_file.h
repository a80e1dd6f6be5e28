// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "format/segment.h"
#include "store/backend.h"
#include "store/frame_cache.h"

namespace ckpt {

// Where the frames of a segment are, and which chunks are in which.
class FrameTable {
public:
  struct Frame {
    std::uint64_t offset = 0;
    std::uint32_t stored_length = 0;
    std::uint32_t first = 0;  // of its chunks, in ordinals()
    std::uint32_t count = 0;

    std::size_t total_bytes() const { return frame_head_bytes + count * frame_entry_bytes + stored_length; }
  };

  void add(std::uint64_t offset, const FrameHead& head);
  const Frame* find(std::uint32_t ordinal) const;
  // Forgets the frames from that offset on.
  void cut(std::uint64_t offset);

  const std::vector<Frame>& frames() const { return frames_; }
  const std::vector<std::uint32_t>& ordinals() const { return ordinals_; }
  std::uint32_t next_ordinal() const { return ordinals_.empty() ? 0 : ordinals_.back() + 1; }

private:
  std::vector<Frame> frames_;
  std::vector<std::uint32_t> ordinals_;
};

// Checks and decompresses a whole frame's bytes. What `out` has room for is not allocated again.
Status decode_frame(ByteView bytes, std::uint64_t seed, DecodedFrame& out);

// An existing segment, opened for reading. The blob stays open, so it stays readable when its name is taken away.
class SegmentFile {
public:
  // Reads the footer, or scans when there is none. `verify_payloads`: a scan leaves out frames whose payload is not
  // whole.
  static Result<std::shared_ptr<SegmentFile>> open(std::shared_ptr<Blob> blob, std::uint64_t id, const StoreUuid& uuid,
                                                   std::uint64_t serial, bool verify_payloads);
  // Of a segment that was written just now.
  static std::shared_ptr<SegmentFile> adopt(std::shared_ptr<Blob> blob, std::uint64_t id, std::uint64_t generation,
                                            std::uint64_t serial, FrameTable table, bool sealed);

  std::uint64_t id() const { return id_; }
  std::uint64_t serial() const { return serial_; }
  std::uint64_t generation() const { return generation_; }
  bool sealed() const { return sealed_; }
  Blob& blob() { return *blob_; }

  // A copy, as an unsealed segment grows under a reader.
  std::optional<FrameTable::Frame> find(std::uint32_t ordinal);
  // Reads on behind the frames known so far. For a segment that another process writes.
  Status scan_on(bool verify_payloads);
  // Why the disk did not give all of it when it was opened; frames may be there that are not in the table.
  std::optional<Error> unread();
  // Where the last whole frame ends.
  std::uint64_t scanned_end() const { return scanned_end_; }
  // Not while somebody may scan on.
  const FrameTable& table() const { return table_; }

  // All of `out`, as it is on the disk.
  Status read(std::uint64_t offset, std::span<std::uint8_t> out);
  // `bytes`: those of the frame, read before.
  Status decode(const FrameTable::Frame& frame, ByteView bytes, DecodedFrame& out) const;
  // Both; `bytes` is room for the frame as it is on the disk.
  Status read_frame(const FrameTable::Frame& frame, Bytes& bytes, DecodedFrame& out);
  // Every frame's head, for an index or a footer: from the footer, or by reading each.
  Status each_head(const std::function<void(std::uint64_t offset, const FrameHead&, ByteView head_and_table)>& visit);

private:
  SegmentFile(std::shared_ptr<Blob> blob, std::uint64_t id, std::uint64_t serial)
      : blob_(std::move(blob)), id_(id), serial_(serial) {}
  Status load_footer(std::uint64_t size);
  Status pass_over(const Error& error);
  Result<std::size_t> read_what_can_be(std::uint64_t offset, std::span<std::uint8_t> out);
  Error at(std::uint64_t offset, const Error& error) const;

  std::shared_ptr<Blob> blob_;
  std::uint64_t id_;
  std::uint64_t serial_;
  std::uint64_t generation_ = 0;
  bool sealed_ = false;
  std::uint64_t scanned_end_ = segment_header_bytes;
  std::mutex mutex_;  // guards what follows, and scanned_end_, while unsealed
  FrameTable table_;
  std::optional<Error> unread_;
  std::size_t unread_sectors_ = 0;
};

}  // namespace ckpt
