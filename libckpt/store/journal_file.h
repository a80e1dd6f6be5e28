// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/journal.h"
#include "store/backend.h"

namespace ckpt {

// The commit log as a file. Not thread-safe.
class JournalFile {
public:
  using Visit = std::function<Status(JournalRecord&&)>;

  JournalFile(Backend& backend, const StoreUuid& uuid) : backend_(backend), uuid_(uuid) {}

  // An empty one, durable.
  static Status create(Backend& backend, const StoreUuid& uuid);

  // Reads it from the start and hands out each record. A writer also cuts off what an interrupted append left.
  // Damage inside is not an error: damage() tells where, and nothing may be appended.
  Status load(bool for_writing, const Visit& visit);
  // Records that have been appended since by another process. `again`: the journal was rewritten, nothing was visited,
  // and everything known of it must be read anew with load().
  Status load_more(bool& again, const Visit& visit);

  // Durable when it succeeds. When it fails, the record is not there, unless usable() is false afterwards.
  Status append(const JournalRecord& record);

  // Exchanges the journal for one of these records only.
  Status rewrite(const std::vector<JournalRecord>& records);

  // Empty when nothing is wrong: why nothing can be appended any more.
  const std::string& damage() const { return damage_; }
  bool usable() const { return writable_ && damage_.empty(); }
  std::uint64_t bytes() const { return end_; }
  std::uint64_t record_count() const { return record_count_; }

private:
  Status read_records(Blob& blob, const Visit& visit);
  Result<bool> good_record_behind(Blob& blob, std::uint64_t offset) const;

  Backend& backend_;
  StoreUuid uuid_;
  std::unique_ptr<Blob> blob_;
  std::uint64_t first_sequence_ = 1;
  std::uint64_t next_sequence_ = 1;
  std::uint64_t end_ = journal_header_bytes;
  std::uint64_t record_count_ = 0;
  bool writable_ = false;
  std::string damage_;
};

}  // namespace ckpt
