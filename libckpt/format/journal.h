// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The commit log's records. doc/store_format.md, "Journal".
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "ckpt/result.h"
#include "format/file_header.h"
#include "format/location.h"

namespace ckpt {

inline constexpr std::uint32_t journal_magic = 0x4C4E4A43;
inline constexpr std::uint32_t journal_version = 1;
inline constexpr std::size_t journal_header_bytes = file_header_bytes;
inline constexpr std::size_t record_head_bytes = 32;
inline constexpr std::uint32_t max_record_body_bytes = 1u << 20;
inline constexpr std::size_t max_numbers_per_record = 65536;

struct JournalHeader {
  StoreUuid uuid{};
  std::uint64_t first_sequence = 1;
};

struct MachineRecord {
  std::uint32_t machine = 0;
  std::uint32_t domain = 0;
  std::array<std::uint8_t, 16> uuid{};
  std::uint64_t created_ns = 0;
  std::string name;
};
struct DomainRecord {
  std::uint32_t domain = 0;
  Secret secret{};
};
struct CommitRecord {
  std::uint32_t machine = 0;
  std::uint32_t parent_machine = 0;
  std::uint64_t number = 0;
  std::uint64_t parent_number = 0;
  std::uint64_t wall_clock_ns = 0;
  Location manifest = 0;
  std::uint32_t manifest_length = 0;
  bool application_consistent = false;
  bool frozen = false;
  std::array<std::uint8_t, 16> instance{};
  std::uint64_t data_bytes = 0;
  std::uint64_t stored_bytes = 0;
};
struct RemoveRecord {
  std::uint32_t machine = 0;
  std::vector<std::uint64_t> numbers;
};
struct NameRecord {
  std::uint32_t machine = 0;
  std::uint64_t number = 0;
  std::string name;
};
struct PinRecord {
  std::uint32_t machine = 0;
  bool pinned = false;
  std::uint64_t number = 0;
  std::string holder;
};
struct ForgetRecord {
  std::uint32_t machine = 0;
};
struct DroppedRecord {
  std::uint64_t segment = 0;
};

// In the order of their types, from 1.
using JournalRecord = std::variant<MachineRecord, DomainRecord, CommitRecord, RemoveRecord, NameRecord, PinRecord,
                                   ForgetRecord, DroppedRecord>;

void encode_journal_header(Bytes& out, const JournalHeader& header);
Result<JournalHeader> decode_journal_header(ByteView bytes);

void encode_record(Bytes& out, std::uint64_t sequence, const JournalRecord& record);

struct ParsedRecord {
  std::uint64_t sequence = 0;
  std::size_t total_bytes = 0;
  JournalRecord record;
};

// The record that `bytes` starts with. corrupt: cut short, or not one; version: whole, but of an unknown type.
Result<ParsedRecord> decode_record(ByteView bytes);

}  // namespace ckpt
