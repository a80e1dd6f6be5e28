// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/frame_run.h"

#include <algorithm>
#include <chrono>

namespace ckpt {

namespace {

// Of a request for more than one frame.
constexpr std::size_t request_limit_bytes = 256u << 10;
// What lies between two frames that are wanted is read for nothing, and often once more when it is wanted itself.
constexpr std::size_t gap_limit_bytes = 1u << 10;

}  // namespace

bool FrameRun::holds(const SegmentFile& file, const FrameTable::Frame& frame) const {
  return file_ == file.serial() && frame.offset >= offset_ && frame.offset - offset_ <= length_ &&
         frame.total_bytes() <= length_ - (frame.offset - offset_);
}

void FrameRun::forget() {
  file_ = 0;
  first_ = 1, last_ = 0;
}

void FrameRun::plan(SegmentFile& file, const FrameTable::Frame& frame, std::span<const PagePlace> wanted,
                    std::size_t request_bytes) {
  const std::uint64_t limit = frame.offset + std::min(request_bytes, request_limit_bytes);
  std::uint64_t end = frame.offset + frame.total_bytes();
  first_ = last_ = wanted.front().place;
  for (const PagePlace& page : wanted) {
    if (end >= limit || page.place < last_ || segment_of(page.place) != file.id()) break;
    auto next = file.find(ordinal_of(page.place));
    if (!next || next->offset < frame.offset || next->offset > end + gap_limit_bytes) break;
    const std::uint64_t next_end = next->offset + next->total_bytes();
    if (next_end > end && next_end > limit) break;
    end = std::max(end, next_end);
    last_ = page.place;
  }
  file_ = file.serial();
  offset_ = frame.offset;
  length_ = static_cast<std::size_t>(end - frame.offset);
}

Status FrameRun::load(SegmentFile& file) {
  if (bytes_.size() < length_) bytes_.resize(length_);
  const auto start = std::chrono::steady_clock::now();
  Status done = file.read(offset_, std::span(bytes_).first(length_));
  const auto took = std::chrono::steady_clock::now() - start;
  ++requests_.count;
  requests_.bytes += length_;
  requests_.nanoseconds += static_cast<std::uint64_t>(took / std::chrono::nanoseconds(1));
  return done;
}

Status FrameRun::decode(SegmentFile& file, const FrameTable::Frame& frame, DecodedFrame& out) const {
  auto at = static_cast<std::size_t>(frame.offset - offset_);
  return file.decode(frame, ByteView(bytes_).subspan(at, frame.total_bytes()), out);
}

Status FrameRun::read(SegmentFile& file, const FrameTable::Frame& frame, std::span<const PagePlace> wanted,
                      std::size_t request_bytes, DecodedFrame& out) {
  bool with_others = holds(file, frame);
  if (!with_others) {
    plan(file, frame, wanted, request_bytes);
    with_others = length_ > frame.total_bytes() && load(file);
  }
  if (with_others && decode(file, frame, out)) return {};
  // It may be one of the others that cannot be read, and what was read with them has perhaps been mended since.
  plan(file, frame, wanted.first(1), 0);
  Status done = load(file);
  if (done) done = decode(file, frame, out);
  if (!done) forget();
  return done;
}

}  // namespace ckpt
