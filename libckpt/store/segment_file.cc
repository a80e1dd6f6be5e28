// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/segment_file.h"

#include <algorithm>

#include "format/compress.h"

namespace ckpt {

namespace {

constexpr std::size_t scan_window_bytes = 4u << 20;
static_assert(scan_window_bytes > max_frame_table_end + max_frame_raw_bytes);
constexpr std::size_t sector_bytes = 4096;  // what a file system reads at once
// A disk takes seconds for each; with more of them it is not this place that is bad.
constexpr std::size_t max_unread_sectors = 64;

// Bytes up to where a frame may start next, at least one; a magic that is cut by the end of the window is kept.
std::size_t next_candidate(ByteView bytes) {
  std::uint8_t magic[sizeof frame_magic];
  store_le(magic, frame_magic);
  auto at = std::search(bytes.begin() + 1, bytes.end(), std::begin(magic), std::end(magic));
  if (at != bytes.end()) return static_cast<std::size_t>(at - bytes.begin());
  return bytes.size() - std::min(bytes.size() - 1, sizeof magic - 1);
}

}  // namespace

void FrameTable::add(std::uint64_t offset, const FrameHead& head) {
  frames_.push_back({offset, head.stored_length, static_cast<std::uint32_t>(ordinals_.size()),
                     static_cast<std::uint32_t>(head.table.size())});
  for (const ChunkEntry& entry : head.table) ordinals_.push_back(entry.ordinal);
}

const FrameTable::Frame* FrameTable::find(std::uint32_t ordinal) const {
  auto at = std::lower_bound(ordinals_.begin(), ordinals_.end(), ordinal);
  if (at == ordinals_.end() || *at != ordinal) return nullptr;
  auto index = static_cast<std::uint32_t>(at - ordinals_.begin());
  auto frame = std::upper_bound(frames_.begin(), frames_.end(), index,
                                [](std::uint32_t wanted, const Frame& candidate) { return wanted < candidate.first; });
  return &*std::prev(frame);
}

void FrameTable::cut(std::uint64_t offset) {
  while (!frames_.empty() && frames_.back().offset >= offset) {
    ordinals_.resize(frames_.back().first);
    frames_.pop_back();
  }
}

Status decode_frame(ByteView bytes, std::uint64_t seed, DecodedFrame& out) {
  CKPT_ASSIGN(FrameHead head, decode_frame_head(bytes, seed));
  if (bytes.size() < head.total_bytes()) return make_error(Code::corrupt, "frame is cut short");
  ByteView payload = bytes.subspan(head.payload_offset(), head.stored_length);
  CKPT_TRY(check_payload(head, payload, seed));
  out.raw.resize(head.raw_length);
  CKPT_TRY(decompress(head.codec, payload, out.raw));
  out.table = std::move(head.table);
  out.offsets.clear();
  std::uint32_t offset = 0;
  for (const ChunkEntry& entry : out.table) {
    out.offsets.push_back(offset);
    offset += entry.length;
  }
  return {};
}

Result<std::shared_ptr<SegmentFile>> SegmentFile::open(std::shared_ptr<Blob> blob, std::uint64_t id,
                                                       const StoreUuid& uuid, std::uint64_t serial,
                                                       bool verify_payloads) {
  std::shared_ptr<SegmentFile> file(new SegmentFile(std::move(blob), id, serial));
  auto bytes = read_exactly(*file->blob_, 0, segment_header_bytes);
  if (!bytes) return file->at(0, bytes.error());
  auto header = decode_segment_header(*bytes);
  if (!header) return file->at(0, header.error());
  if (header->segment != id) return file->at(0, make_error(Code::corrupt, "is another segment"));
  if (header->uuid != uuid) return file->at(0, make_error(Code::corrupt, "belongs to another store"));
  file->generation_ = header->generation;
  CKPT_ASSIGN(std::uint64_t size, file->blob_->size());
  CKPT_TRY(file->load_footer(size));
  if (!file->sealed_) CKPT_TRY(file->scan_on(verify_payloads));
  return file;
}

std::shared_ptr<SegmentFile> SegmentFile::adopt(std::shared_ptr<Blob> blob, std::uint64_t id, std::uint64_t generation,
                                                std::uint64_t serial, FrameTable table, bool sealed) {
  std::shared_ptr<SegmentFile> file(new SegmentFile(std::move(blob), id, serial));
  file->generation_ = generation;
  file->table_ = std::move(table);
  file->sealed_ = sealed;
  if (!file->table_.frames().empty()) {
    const FrameTable::Frame& last = file->table_.frames().back();
    file->scanned_end_ = last.offset + last.total_bytes();
  }
  return file;
}

Status SegmentFile::pass_over(const Error& error) {
  if (!is_bad_place(error)) return error;
  unread_ = at(0, error);
  return {};
}

// A footer that is not whole, or cannot be read, is as none: the frames are still there to be scanned.
Status SegmentFile::load_footer(std::uint64_t size) {
  if (size < segment_header_bytes + segment_trailer_bytes) return {};
  auto tail = read_exactly(*blob_, size - segment_trailer_bytes, segment_trailer_bytes);
  if (!tail) return pass_over(tail.error());
  std::optional<SegmentTrailer> trailer = decode_trailer(*tail, size);
  if (!trailer) return {};
  auto footer = read_exactly(*blob_, trailer->footer_offset, trailer->footer_length);
  if (!footer) return pass_over(footer.error());
  auto frames = decode_footer(*footer, *trailer, id_);
  if (!frames) return {};
  for (const PlacedFrame& frame : *frames) table_.add(frame.offset, frame.head);
  sealed_ = true;
  scanned_end_ = trailer->footer_offset;
  return {};
}

// What the disk does not give reads as zeroes, in which there is no frame.
Result<std::size_t> SegmentFile::read_what_can_be(std::uint64_t offset, std::span<std::uint8_t> out) {
  auto whole = blob_->read(offset, out);
  if (whole || !is_bad_place(whole.error())) return whole;
  for (std::size_t done = 0; done < out.size();) {
    std::size_t length = sector_bytes - static_cast<std::size_t>((offset + done) % sector_bytes);
    auto piece = out.subspan(done, std::min(length, out.size() - done));
    auto read = blob_->read(offset + done, piece);
    if (read && *read < piece.size()) return done + *read;
    if (!read) {
      if (!is_bad_place(read.error()) || ++unread_sectors_ > max_unread_sectors) return read.error();
      std::fill(piece.begin(), piece.end(), std::uint8_t{0});
      unread_ = at(offset + done, read.error());
    }
    done += piece.size();
  }
  return out.size();
}

std::optional<Error> SegmentFile::unread() {
  std::lock_guard lock(mutex_);
  return unread_;
}

Status SegmentFile::scan_on(bool verify_payloads) {
  std::lock_guard lock(mutex_);
  if (sealed_) return {};
  std::uint64_t offset = scanned_end_;
  Bytes window;
  std::uint64_t window_offset = offset;
  for (bool at_end = false;;) {
    std::size_t from = offset - window_offset;
    if (!at_end && window.size() - from < max_frame_table_end + max_frame_raw_bytes) {
      window.resize(scan_window_bytes);
      window_offset = offset;
      from = 0;
      CKPT_ASSIGN(std::size_t n, read_what_can_be(offset, window));
      at_end = n < window.size();
      window.resize(n);
    }
    ByteView rest = ByteView(window).subspan(from);
    if (rest.size() < frame_head_bytes) return {};
    std::uint64_t seed = frame_seed(id_, offset);
    auto head = decode_frame_head(rest, seed);
    bool whole =
        head.ok() && rest.size() >= head->total_bytes() && head->table.front().ordinal >= table_.next_ordinal();
    if (whole && verify_payloads) {
      whole = check_payload(*head, rest.subspan(head->payload_offset(), head->stored_length), seed).ok();
    }
    if (!whole) {
      // Damage, or the end. Whole frames behind it are found by their checksum, which knows where they belong.
      offset += next_candidate(rest);
      continue;
    }
    table_.add(offset, *head);
    offset += head->total_bytes();
    scanned_end_ = offset;
  }
}

std::optional<FrameTable::Frame> SegmentFile::find(std::uint32_t ordinal) {
  std::lock_guard lock(mutex_);
  const FrameTable::Frame* frame = table_.find(ordinal);
  if (frame == nullptr) return std::nullopt;
  return *frame;
}

Status SegmentFile::read(std::uint64_t offset, std::span<std::uint8_t> out) {
  Status done = read_exactly(*blob_, offset, out);
  return done ? done : at(offset, done.error());
}

Status SegmentFile::decode(const FrameTable::Frame& frame, ByteView bytes, DecodedFrame& out) const {
  Status done = decode_frame(bytes, frame_seed(id_, frame.offset), out);
  return done ? done : at(frame.offset, done.error());
}

Status SegmentFile::read_frame(const FrameTable::Frame& frame, Bytes& bytes, DecodedFrame& out) {
  bytes.resize(frame.total_bytes());
  CKPT_TRY(read(frame.offset, bytes));
  return decode(frame, bytes, out);
}

Status SegmentFile::each_head(
    const std::function<void(std::uint64_t, const FrameHead&, ByteView head_and_table)>& visit) {
  if (sealed_) {
    CKPT_ASSIGN(std::uint64_t size, blob_->size());
    if (size < scanned_end_ + segment_trailer_bytes) return at(scanned_end_, make_error(Code::corrupt, "cut short"));
    auto footer = read_exactly(*blob_, scanned_end_, size - segment_trailer_bytes - scanned_end_);
    if (!footer) return at(scanned_end_, footer.error());
    for (std::size_t done = 0; done < footer->size();) {
      ByteReader reader(ByteView(*footer).subspan(done));
      std::uint64_t offset = reader.u64();
      ByteView rest = reader.rest();
      auto head = decode_frame_head(rest, frame_seed(id_, offset));
      if (!head) return at(scanned_end_, head.error());
      visit(offset, *head, rest.first(head->payload_offset()));
      done += sizeof offset + head->payload_offset();
    }
    return {};
  }
  for (const FrameTable::Frame& frame : table_.frames()) {
    std::size_t length = frame_head_bytes + frame.count * frame_entry_bytes;
    auto bytes = read_exactly(*blob_, frame.offset, length);
    if (!bytes) return at(frame.offset, bytes.error());
    auto head = decode_frame_head(*bytes, frame_seed(id_, frame.offset));
    if (!head) return at(frame.offset, head.error());
    visit(frame.offset, *head, *bytes);
  }
  return {};
}

Error SegmentFile::at(std::uint64_t offset, const Error& error) const {
  Error named = error;
  named.context = "segments/" + segment_name(id_) + " offset " + std::to_string(offset) + ": " + error.context;
  return named;
}

}  // namespace ckpt
