// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/segment_writer.h"

#include "base/check.h"

namespace ckpt {

namespace {
constexpr std::size_t write_buffer_bytes = 1u << 20;
}

Result<std::shared_ptr<SegmentWriter>> SegmentWriter::create(Backend& backend, const std::string& name,
                                                             const SegmentHeader& header, std::uint64_t serial) {
  CKPT_ASSIGN(std::shared_ptr<Blob> blob, backend.create(name));
  std::shared_ptr<SegmentWriter> writer(new SegmentWriter(std::move(blob), header, serial));
  encode_segment_header(writer->buffer_, header);
  return writer;
}

Result<std::size_t> SegmentWriter::append(FrameDraft& draft, bool keep_ordinals) {
  if (!keep_ordinals) {
    std::uint32_t next = table_.next_ordinal();
    for (ChunkEntry& entry : draft.head.table) entry.ordinal = next++;
  }
  CKPT_CHECK(draft.head.table.front().ordinal >= table_.next_ordinal());
  std::uint64_t offset = size();
  std::size_t start = buffer_.size();
  encode_frame_head(buffer_, draft.head, draft.payload, frame_seed(id(), offset));
  append_footer_entry(footer_, offset, ByteView(buffer_).subspan(start));
  buffer_.insert(buffer_.end(), draft.payload.begin(), draft.payload.end());
  table_.add(offset, draft.head);
  std::size_t added = buffer_.size() - start;
  if (buffer_.size() >= write_buffer_bytes) CKPT_TRY(flush());
  return added;
}

Status SegmentWriter::flush() {
  if (buffer_.empty()) return {};
  CKPT_TRY(blob_->append(buffer_));
  flushed_ += buffer_.size();
  buffer_.clear();
  return {};
}

ByteView SegmentWriter::buffered(const FrameTable::Frame& frame) const {
  if (frame.offset < flushed_) return {};
  return ByteView(buffer_).subspan(frame.offset - flushed_, frame.total_bytes());
}

FrameTable SegmentWriter::give_up() {
  table_.cut(durable_);
  buffer_.clear();
  // Best effort: what is behind the durable part is refused by its checksums or never referred to.
  (void)blob_->cut(durable_);
  return std::move(table_);
}

Status SegmentWriter::seal() {
  CKPT_CHECK(buffer_.empty());
  append_trailer(footer_, flushed_);
  return blob_->append(footer_);
}

}  // namespace ckpt
