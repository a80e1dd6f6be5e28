// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/stream_codec.h"

namespace ckpt::wire {

std::size_t StreamWriter::open(Type type, std::uint64_t epoch) {
  std::size_t start = out_.size();
  encode_message_head(out_, stream_magic, {static_cast<std::uint16_t>(type), epoch, 0, sequence_++});
  return start;
}

void StreamWriter::close(std::size_t start) {
  ByteWriter(out_).patch_u32(start + message_length_at, static_cast<std::uint32_t>(out_.size() - start - header_bytes));
}

void StreamWriter::hello(const Hello& hello) {
  std::size_t start = open(Type::hello, 0);
  ByteWriter to(out_);
  to.u32(hello.version);
  to.u32(hello.page_size);
  to.bytes(hello.instance);
  to.bytes(hello.uuid);
  to.u64(hello.acked_epoch);
  to.u64(hello.closed_epoch);
  to.string(hello.qemu_version);
  to.string(hello.machine_type);
  to.string(hello.base);
  close(start);
}

void StreamWriter::welcome(const Welcome& welcome) {
  std::size_t start = open(Type::welcome, 0);
  ByteWriter to(out_);
  to.u32(welcome.version);
  to.u32(static_cast<std::uint32_t>(welcome.mode));
  to.u64(welcome.next_epoch);
  to.u64(welcome.last_durable);
  to.u32(welcome.interval_ms);
  to.u32(0);
  close(start);
}

void StreamWriter::epoch_begin(std::uint64_t epoch, const EpochBegin& begin) {
  std::size_t start = open(Type::epoch_begin, epoch);
  ByteWriter to(out_);
  to.u32(static_cast<std::uint32_t>(begin.kind));
  to.u32(static_cast<std::uint32_t>(begin.objects.size()));
  for (const NumberedObject& entry : begin.objects) {
    to.u32(entry.number);
    to.u32(static_cast<std::uint32_t>(entry.object.object_class));
    to.u64(entry.object.size_bytes);
    to.u32(entry.object.page_size_bytes);
    to.u32(entry.object.flags);
    to.string(entry.object.name);
  }
  close(start);
}

void StreamWriter::data(std::uint64_t epoch, const Data& data) {
  std::size_t start = open(Type::data, epoch);
  ByteWriter to(out_);
  to.u32(data.object);
  to.u32(0);
  to.u64(data.offset);
  to.bytes(data.bytes);
  close(start);
}

void StreamWriter::zero(std::uint64_t epoch, const Zero& zero) {
  std::size_t start = open(Type::zero, epoch);
  ByteWriter to(out_);
  to.u32(zero.object);
  to.u32(0);
  to.u64(zero.offset);
  to.u64(zero.length);
  close(start);
}

void StreamWriter::epoch_end(std::uint64_t epoch, const EpochEnd& end) {
  std::size_t start = open(Type::epoch_end, epoch);
  ByteWriter to(out_);
  to.u64(end.data_count);
  to.u64(end.zero_count);
  to.u64(end.data_bytes);
  to.u64(end.wall_clock_ns);
  to.u64(end.vm_clock_ns);
  to.u32(static_cast<std::uint32_t>(end.run_state));
  to.u32(end.pause_us);
  to.u32(end.drain_us);
  to.u32(end.device_us);
  to.u32(end.dirty_us);
  to.u32(end.copy_us);
  to.u64(end.ram_pages);
  to.u64(end.disk_bytes);
  close(start);
}

void StreamWriter::state(std::uint64_t epoch, const State& state) {
  std::size_t start = open(Type::state, epoch);
  ByteWriter to(out_);
  to.u32(static_cast<std::uint32_t>(state.state));
  to.u32(0);
  to.u64(state.remaining_bytes);
  to.string(state.reason);
  close(start);
}

void StreamWriter::take(std::uint64_t epoch) {
  std::size_t start = open(Type::take, epoch);
  ByteWriter(out_).zeroes(8);
  close(start);
}

void StreamWriter::durable(std::uint64_t epoch) { close(open(Type::durable, epoch)); }

void StreamWriter::refuse(const Refuse& refuse) {
  std::size_t start = open(Type::refuse, 0);
  ByteWriter(out_).string(refuse.reason);
  close(start);
}

}  // namespace ckpt::wire
