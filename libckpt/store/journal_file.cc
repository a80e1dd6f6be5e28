// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/journal_file.h"

#include "base/check.h"

namespace ckpt {

namespace {

const std::string journal_name = "journal";
const std::string new_journal_name = "journal.new";
constexpr std::size_t max_record_bytes = record_head_bytes + max_record_body_bytes;
constexpr std::size_t window_bytes = 4u << 20;
static_assert(window_bytes > max_record_bytes);

Error named(const Error& error, std::uint64_t offset) {
  Error result = error;
  result.context = "journal offset " + std::to_string(offset) + ": " + error.context;
  return result;
}

}  // namespace

Status JournalFile::create(Backend& backend, const StoreUuid& uuid) {
  CKPT_ASSIGN(auto blob, backend.create(journal_name));
  Bytes bytes;
  encode_journal_header(bytes, {uuid, 1});
  return blob->append_synced(bytes);
}

Status JournalFile::load(bool for_writing, const Visit& visit) {
  CKPT_ASSIGN(blob_, for_writing ? backend_.open_for_append(journal_name) : backend_.open(journal_name));
  auto bytes = read_exactly(*blob_, 0, journal_header_bytes);
  if (!bytes) return named(bytes.error(), 0);
  auto header = decode_journal_header(*bytes);
  if (!header) return named(header.error(), 0);
  if (header->uuid != uuid_) return make_error(Code::corrupt, "journal belongs to another store");
  first_sequence_ = next_sequence_ = header->first_sequence;
  end_ = journal_header_bytes;
  record_count_ = 0;
  damage_.clear();
  CKPT_TRY(read_records(*blob_, visit));
  CKPT_ASSIGN(std::uint64_t size, blob_->size());
  bool damaged = false;
  if (size > end_) {
    CKPT_ASSIGN(damaged, good_record_behind(*blob_, end_));
  }
  if (damaged) {
    damage_ = "journal offset " + std::to_string(end_) + ": a bad record with good ones behind it";
  }
  writable_ = for_writing && damage_.empty();
  if (!writable_ || size == end_) return {};
  CKPT_TRY(blob_->cut(end_));
  return blob_->sync();
}

Status JournalFile::load_more(bool& again, const Visit& visit) {
  CKPT_ASSIGN(auto blob, backend_.open(journal_name));
  auto bytes = read_exactly(*blob, 0, journal_header_bytes);
  if (!bytes) return named(bytes.error(), 0);
  auto header = decode_journal_header(*bytes);
  if (!header) return named(header.error(), 0);
  again = header->first_sequence != first_sequence_;
  if (again) return {};
  blob_ = std::move(blob);
  return read_records(*blob_, visit);
}

// From end_ on, as long as they are good.
Status JournalFile::read_records(Blob& blob, const Visit& visit) {
  Bytes window;
  std::uint64_t window_offset = end_;
  for (bool at_end = false;;) {
    std::size_t from = end_ - window_offset;
    if (!at_end && window.size() - from < max_record_bytes) {
      window.resize(window_bytes);
      window_offset = end_;
      from = 0;
      CKPT_ASSIGN(std::size_t n, blob.read(end_, window));
      at_end = n < window.size();
      window.resize(n);
    }
    auto parsed = decode_record(ByteView(window).subspan(from));
    if (!parsed && parsed.error().code == Code::version) return named(parsed.error(), end_);
    if (!parsed || parsed->sequence != next_sequence_) return {};
    if (Status status = visit(std::move(parsed->record)); !status) return named(status.error(), end_);
    end_ += parsed->total_bytes;
    ++next_sequence_;
    ++record_count_;
  }
}

// An error is an error, not an answer: what cannot be read now may be committed checkpoints, and is not cut off.
Result<bool> JournalFile::good_record_behind(Blob& blob, std::uint64_t offset) const {
  Bytes window;
  for (std::uint64_t at = offset;;) {
    window.resize(window_bytes);
    CKPT_ASSIGN(std::size_t n, blob.read(at, window));
    bool at_end = n < window.size();
    window.resize(n);
    std::size_t usable = at_end ? window.size() : window.size() - max_record_bytes;
    for (std::size_t i = 0; i + record_head_bytes <= usable; i += 8) {  // records are padded to 8 bytes
      if (load_le<std::uint32_t>(window.data() + i) != journal_magic) continue;
      auto parsed = decode_record(ByteView(window).subspan(i));
      bool whole = parsed.ok() || parsed.error().code == Code::version;
      if (whole && (!parsed || parsed->sequence >= next_sequence_)) return true;
    }
    if (at_end) return false;
    at += usable & ~std::size_t{7};
  }
}

Status JournalFile::append(const JournalRecord& record) {
  CKPT_CHECK(usable());
  Bytes bytes;
  encode_record(bytes, next_sequence_, record);
  Status status = blob_->append_synced(bytes);
  if (!status) {
    // Whether the record reached the disk is open. Only when it can surely be taken away, the journal goes on.
    writable_ = blob_->cut(end_).ok() && blob_->sync().ok();
    if (writable_) return status;
    Error error = status.error();
    error.code = Code::io;
    error.context =
        "journal: whether the last record is durable is unknown; open the store again (" + error.context + ")";
    return error;
  }
  end_ += bytes.size();
  ++next_sequence_;
  ++record_count_;
  return {};
}

Status JournalFile::rewrite(const std::vector<JournalRecord>& records) {
  CKPT_CHECK(usable());
  std::uint64_t sequence = next_sequence_;
  Bytes bytes;
  encode_journal_header(bytes, {uuid_, sequence});
  std::uint64_t size = 0;
  auto write = [&]() -> Result<std::unique_ptr<Blob>> {
    CKPT_ASSIGN(auto blob, backend_.create(new_journal_name));
    for (const JournalRecord& record : records) {
      encode_record(bytes, sequence++, record);
      if (bytes.size() < window_bytes) continue;
      CKPT_TRY(blob->append(bytes));
      size += bytes.size();
      bytes.clear();
    }
    size += bytes.size();
    CKPT_TRY(blob->append_synced(bytes));
    return blob;
  };
  auto blob = write();
  if (!blob) {
    (void)backend_.remove(new_journal_name);
    return blob.error();
  }
  bool not_done = true;
  if (Status status = backend_.replace(new_journal_name, journal_name, not_done); !status) {
    // A power cut might bring the old one back, so nothing may be acknowledged in the new one.
    writable_ = not_done;
    return status;
  }
  blob_ = blob.take();
  first_sequence_ = next_sequence_;
  next_sequence_ = sequence;
  end_ = size;
  record_count_ = records.size();
  return {};
}

}  // namespace ckpt
