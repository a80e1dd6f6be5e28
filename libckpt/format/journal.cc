// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/journal.h"

#include <algorithm>

#include "base/check.h"

namespace ckpt {

namespace {

constexpr std::string_view header_magic = "CKPTJNL1";
constexpr std::size_t record_checksum_at = 24;
constexpr std::uint32_t flag_application_consistent = 1, flag_frozen = 2;

void put(ByteWriter& writer, const MachineRecord& record) {
  writer.u32(record.machine);
  writer.u32(record.domain);
  writer.bytes(record.uuid);
  writer.u64(record.created_ns);
  writer.string(record.name);
}
void put(ByteWriter& writer, const DomainRecord& record) {
  writer.u32(record.domain);
  writer.bytes(record.secret);
}
void put(ByteWriter& writer, const CommitRecord& record) {
  writer.u32(record.machine);
  writer.u32(record.parent_machine);
  writer.u64(record.number);
  writer.u64(record.parent_number);
  writer.u64(record.wall_clock_ns);
  writer.u64(record.manifest);
  writer.u32(record.manifest_length);
  writer.u32((record.application_consistent ? flag_application_consistent : 0) | (record.frozen ? flag_frozen : 0));
  writer.bytes(record.instance);
  writer.u64(record.data_bytes);
  writer.u64(record.stored_bytes);
}
void put(ByteWriter& writer, const RemoveRecord& record) {
  CKPT_CHECK(record.numbers.size() <= max_numbers_per_record);
  writer.u32(record.machine);
  writer.u32(static_cast<std::uint32_t>(record.numbers.size()));
  for (std::uint64_t number : record.numbers) writer.u64(number);
}
void put(ByteWriter& writer, const NameRecord& record) {
  writer.u32(record.machine);
  writer.u32(0);
  writer.u64(record.number);
  writer.string(record.name);
}
void put(ByteWriter& writer, const PinRecord& record) {
  writer.u32(record.machine);
  writer.u32(record.pinned ? 1 : 0);
  writer.u64(record.number);
  writer.string(record.holder);
}
void put(ByteWriter& writer, const ForgetRecord& record) { writer.u32(record.machine); }
void put(ByteWriter& writer, const DroppedRecord& record) { writer.u64(record.segment); }

void get(ByteReader& reader, MachineRecord& record) {
  record.machine = reader.u32();
  record.domain = reader.u32();
  reader.copy_to(record.uuid);
  record.created_ns = reader.u64();
  record.name = reader.string();
}
void get(ByteReader& reader, DomainRecord& record) {
  record.domain = reader.u32();
  reader.copy_to(record.secret);
}
void get(ByteReader& reader, CommitRecord& record) {
  record.machine = reader.u32();
  record.parent_machine = reader.u32();
  record.number = reader.u64();
  record.parent_number = reader.u64();
  record.wall_clock_ns = reader.u64();
  record.manifest = reader.u64();
  record.manifest_length = reader.u32();
  const std::uint32_t flags = reader.u32();
  record.application_consistent = (flags & flag_application_consistent) != 0;
  record.frozen = (flags & flag_frozen) != 0;
  reader.copy_to(record.instance);
  record.data_bytes = reader.u64();
  record.stored_bytes = reader.u64();
}
void get(ByteReader& reader, RemoveRecord& record) {
  record.machine = reader.u32();
  std::size_t count = reader.u32();
  if (count > max_numbers_per_record) reader.fail();
  for (std::size_t i = 0; i < count && reader.ok(); ++i) record.numbers.push_back(reader.u64());
}
void get(ByteReader& reader, NameRecord& record) {
  record.machine = reader.u32();
  reader.skip(4);
  record.number = reader.u64();
  record.name = reader.string();
}
void get(ByteReader& reader, PinRecord& record) {
  record.machine = reader.u32();
  record.pinned = reader.u32() != 0;
  record.number = reader.u64();
  record.holder = reader.string();
}
void get(ByteReader& reader, ForgetRecord& record) { record.machine = reader.u32(); }
void get(ByteReader& reader, DroppedRecord& record) { record.segment = reader.u64(); }

template <std::size_t I = 0>
bool decode_body(std::size_t index, ByteView body, JournalRecord& out) {
  if constexpr (I < std::variant_size_v<JournalRecord>) {
    if (index != I) return decode_body<I + 1>(index, body, out);
    ByteReader reader(body);
    get(reader, out.emplace<I>());
    return reader.finished();
  } else {
    return false;
  }
}

// Head and body as they are when the field of the checksum is zero.
std::uint64_t record_checksum(ByteView head, ByteView body) {
  std::array<std::uint8_t, record_head_bytes> zeroed{};
  std::copy_n(head.begin(), record_checksum_at, zeroed.begin());
  return checksum(zeroed, body, 0);
}

std::size_t padded(std::size_t length) { return (length + 7) & ~std::size_t{7}; }

}  // namespace

void encode_journal_header(Bytes& out, const JournalHeader& header) {
  Bytes body;
  ByteWriter writer(body);
  writer.bytes(header.uuid);
  writer.u64(header.first_sequence);
  encode_file_header(out, header_magic, journal_version, body);
}

Result<JournalHeader> decode_journal_header(ByteView bytes) {
  CKPT_ASSIGN(ByteView body, decode_file_header(bytes, header_magic, journal_version, "journal"));
  ByteReader reader(body);
  JournalHeader header;
  reader.copy_to(header.uuid);
  header.first_sequence = reader.u64();
  return header;
}

void encode_record(Bytes& out, std::uint64_t sequence, const JournalRecord& record) {
  std::size_t start = out.size();
  ByteWriter writer(out);
  writer.u32(journal_magic);
  writer.u32(0);
  writer.u64(sequence);
  writer.u16(static_cast<std::uint16_t>(record.index() + 1));
  writer.u16(0);
  writer.u32(0);
  writer.u64(0);
  std::visit([&writer](const auto& typed) { put(writer, typed); }, record);
  std::size_t body = out.size() - start - record_head_bytes;
  CKPT_CHECK(body <= max_record_body_bytes);
  writer.patch_u32(start + 4, static_cast<std::uint32_t>(body));
  ByteView written = ByteView(out).subspan(start);
  std::uint64_t sum = record_checksum(written.first(record_head_bytes), written.subspan(record_head_bytes));
  writer.patch_u64(start + record_checksum_at, sum);
  writer.zeroes(padded(body) - body);
}

Result<ParsedRecord> decode_record(ByteView bytes) {
  ByteReader reader(bytes);
  std::uint32_t magic = reader.u32();
  std::uint32_t length = reader.u32();
  ParsedRecord parsed;
  parsed.sequence = reader.u64();
  std::uint16_t type = reader.u16();
  reader.skip(6);
  std::uint64_t sum = reader.u64();
  if (!reader.ok() || magic != journal_magic || length > max_record_body_bytes) {
    return make_error(Code::corrupt, "no record");
  }
  ByteView body = reader.bytes(length);
  ByteView padding = reader.bytes(padded(length) - length);
  if (!reader.ok() || record_checksum(bytes.first(record_head_bytes), body) != sum || !is_zero(padding)) {
    return make_error(Code::corrupt, "record fails its checksum");
  }
  parsed.total_bytes = reader.offset();
  if (type == 0 || type > std::variant_size_v<JournalRecord>) {
    return make_error(Code::version, "record of unknown type " + std::to_string(type));
  }
  if (!decode_body(type - 1u, body, parsed.record)) return make_error(Code::corrupt, "record body out of range");
  return parsed;
}

}  // namespace ckpt
