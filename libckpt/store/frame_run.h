// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <span>

#include "ckpt/store.h"
#include "store/segment_file.h"

namespace ckpt {

// What one request has read of a segment, as it is on the disk: a frame and those that lie near behind it. One thread
// at a time.
class FrameRun {
public:
  // Decodes `frame`, which the first of `wanted` is in. If it is not at hand, it is read, and with it the frames of
  // those behind it that are near, as long as all together are no more than `request_bytes`. An error is about `frame`
  // alone: what is wrong with the others is found out when they are wanted.
  Status read(SegmentFile& file, const FrameTable::Frame& frame, std::span<const PagePlace> wanted,
              std::size_t request_bytes, DecodedFrame& out);
  // Whether this place is in what was read last.
  bool has(std::uint64_t place) const { return place >= first_ && place <= last_; }
  void forget();
  const StoreRequests& requests() const { return requests_; }

private:
  bool holds(const SegmentFile& file, const FrameTable::Frame& frame) const;
  void plan(SegmentFile& file, const FrameTable::Frame& frame, std::span<const PagePlace> wanted,
            std::size_t request_bytes);
  Status load(SegmentFile& file);
  Status decode(SegmentFile& file, const FrameTable::Frame& frame, DecodedFrame& out) const;

  std::uint64_t file_ = 0;  // its serial; 0: nothing is here
  std::uint64_t offset_ = 0;
  std::size_t length_ = 0;
  std::uint64_t first_ = 1, last_ = 0;  // places in it
  Bytes bytes_;                         // room for it, and more
  StoreRequests requests_;
};

}  // namespace ckpt
