// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>
#include <set>

#include "format/stream_codec.h"
#include "format/utf8.h"

namespace ckpt::wire {
namespace {

constexpr std::size_t object_head_bytes = 24;
constexpr std::uint32_t flag_read_only = 1;

Error broken(std::string what) { return make_error(Code::protocol, std::move(what)); }

Error newer_version(std::uint32_t version) {
  return make_error(Code::version, "the peer speaks version " + std::to_string(version) +
                                       " of the checkpoint stream and this side version " +
                                       std::to_string(stream_version) + "; bring the older of the two up to date");
}

bool is_name(std::string_view text) { return is_utf8(text) && !has_control_characters(text); }

bool is_power_of_two(std::uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

const char* object_problem(const NumberedObject& entry) {
  const Object& object = entry.object;
  if (entry.number >= max_objects) return "its number is 1024 or more";
  if (object.name.empty()) return "it has no name";
  if (!is_name(object.name)) return "its name is not printable UTF-8";
  if (object.size_bytes > max_object_bytes) return "it is larger than 2^46 bytes";
  switch (object.object_class) {
    case ObjectClass::ram:
      if (object.size_bytes % ram_alignment != 0) return "RAM is not a multiple of 4096 bytes";
      if (!is_power_of_two(object.page_size_bytes) || object.page_size_bytes < ram_alignment)
        return "its page size is wrong";
      return object.flags != 0 ? "it has unknown flags" : nullptr;
    case ObjectClass::disk:
      if (object.size_bytes % disk_alignment != 0) return "a disk is not a multiple of 512 bytes";
      if (object.page_size_bytes != 0) return "a disk has a page size";
      return (object.flags & ~flag_read_only) != 0 ? "it has unknown flags" : nullptr;
    case ObjectClass::device_state:
      if (object.size_bytes != 0 || object.page_size_bytes != 0) return "device state has a size";
      return object.flags != 0 ? "it has unknown flags" : nullptr;
    case ObjectClass::config:
      break;
  }
  return "its class is unknown";
}

Status check_objects(const std::vector<NumberedObject>& objects) {
  std::set<std::uint32_t> numbers;
  std::set<std::pair<ObjectClass, std::string_view>> names;
  std::size_t device_states = 0;
  for (const NumberedObject& entry : objects) {
    std::string where = "object " + std::to_string(entry.number) + " of EPOCH_BEGIN: ";
    if (const char* problem = object_problem(entry)) return broken(where + problem);
    if (!numbers.insert(entry.number).second) return broken(where + "its number is used twice");
    if (!names.insert({entry.object.object_class, entry.object.name}).second)
      return broken(where + "its name is used twice");
    if (entry.object.object_class == ObjectClass::device_state) ++device_states;
  }
  if (device_states != 1) return broken("EPOCH_BEGIN does not have exactly one device-state object");
  return {};
}

bool is_known(Type type) {
  switch (type) {
    case Type::hello:
    case Type::epoch_begin:
    case Type::data:
    case Type::zero:
    case Type::epoch_end:
    case Type::state:
    case Type::welcome:
    case Type::take:
    case Type::durable:
    case Type::refuse:
      return true;
  }
  return false;
}

bool has_epoch(Type type) { return type != Type::hello && type != Type::welcome && type != Type::refuse; }

}  // namespace

std::size_t max_payload_bytes(Type type) {
  constexpr std::size_t max_string = 2 + max_string_bytes;
  switch (type) {
    case Type::hello:
      return 56 + 3 * max_string;
    case Type::epoch_begin:
      return 8 + max_objects * (object_head_bytes + max_string);
    case Type::data:
      return data_head_bytes + max_data_bytes;
    case Type::zero:
      return 24;
    case Type::epoch_end:
      return 80;
    case Type::state:
      return 18 + max_reason_bytes;
    case Type::welcome:
      return 32;
    case Type::take:
      return 8;
    case Type::durable:
      return 0;
    case Type::refuse:
      return 2 + 0xFFFF;
  }
  return 0;
}

Result<Header> decode_header(ByteView bytes) {
  CKPT_ASSIGN(MessageHead head,
              decode_message_head(
                  bytes, stream_magic,
                  "a message does not begin with CKPS: this is no checkpoint stream, or its place in it is lost"));
  Header header{static_cast<Type>(head.type), head.epoch, head.length, head.sequence};
  std::string type = std::to_string(head.type);
  if (!is_known(header.type)) return broken("message type " + type + " is unknown");
  if (header.epoch >= epoch_limit) return broken("epoch number " + std::to_string(header.epoch) + " is too large");
  if (header.epoch != 0 && !has_epoch(header.type)) return broken("a message that belongs to no epoch names one");
  if (header.length > max_payload_bytes(header.type))
    return broken("a message of type " + type + " announces " + std::to_string(header.length) +
                  " bytes, more than its type can have");
  return header;
}

Result<Hello> decode_hello(ByteView payload) {
  ByteReader from(payload);
  Hello hello;
  hello.version = from.u32();
  if (from.ok() && hello.version != stream_version) return newer_version(hello.version);
  hello.page_size = from.u32();
  from.copy_to(hello.instance);
  from.copy_to(hello.uuid);
  hello.acked_epoch = from.u64();
  hello.closed_epoch = from.u64();
  hello.qemu_version = from.string(max_string_bytes);
  hello.machine_type = from.string(max_string_bytes);
  hello.base = from.string(max_string_bytes);
  if (!from.finished()) return broken("HELLO is malformed");
  if (hello.page_size != page_size_bytes)
    return broken("the machine's page size is " + std::to_string(hello.page_size) + " bytes; only 4096 is supported");
  if (hello.acked_epoch >= epoch_limit || hello.closed_epoch >= epoch_limit)
    return broken("an epoch number in HELLO is too large");
  if (!is_name(hello.qemu_version) || !is_name(hello.machine_type) || !is_name(hello.base))
    return broken("a string in HELLO is not printable UTF-8");
  return hello;
}

Result<Welcome> decode_welcome(ByteView payload) {
  ByteReader from(payload);
  Welcome welcome;
  welcome.version = from.u32();
  if (from.ok() && welcome.version != stream_version) return newer_version(welcome.version);
  welcome.mode = static_cast<WelcomeMode>(from.u32());
  welcome.next_epoch = from.u64();
  welcome.last_durable = from.u64();
  welcome.interval_ms = from.u32();
  std::uint32_t reserved = from.u32();
  bool known_mode = welcome.mode == WelcomeMode::full || welcome.mode == WelcomeMode::continue_;
  if (!from.finished() || reserved != 0 || !known_mode || welcome.next_epoch == 0 || welcome.next_epoch >= epoch_limit)
    return broken("WELCOME is malformed");
  return welcome;
}

Result<EpochBegin> decode_epoch_begin(ByteView payload) {
  ByteReader from(payload);
  EpochBegin begin;
  begin.kind = static_cast<EpochKind>(from.u32());
  std::uint32_t count = from.u32();
  if (begin.kind != EpochKind::full && begin.kind != EpochKind::incremental)
    return broken("EPOCH_BEGIN has an unknown kind");
  // Each entry takes at least this much of the payload, so a count that lies costs no memory.
  if (count > max_objects || count > from.remaining() / (object_head_bytes + 2))
    return broken("EPOCH_BEGIN announces " + std::to_string(count) + " objects, more than it can have");
  begin.objects.resize(count);
  for (NumberedObject& entry : begin.objects) {
    entry.number = from.u32();
    entry.object.object_class = static_cast<ObjectClass>(from.u32());
    entry.object.size_bytes = from.u64();
    entry.object.page_size_bytes = from.u32();
    entry.object.flags = from.u32();
    entry.object.name = from.string(max_string_bytes);
  }
  if (!from.finished()) return broken("EPOCH_BEGIN is malformed");
  CKPT_TRY(check_objects(begin.objects));
  return begin;
}

Result<Data> decode_data(ByteView payload) {
  ByteReader from(payload);
  Data data;
  data.object = from.u32();
  std::uint32_t reserved = from.u32();
  data.offset = from.u64();
  data.bytes = from.rest();
  if (!from.ok() || reserved != 0 || data.bytes.empty() || data.bytes.size() > max_data_bytes)
    return broken("DATA is malformed");
  return data;
}

Result<Zero> decode_zero(ByteView payload) {
  ByteReader from(payload);
  Zero zero;
  zero.object = from.u32();
  std::uint32_t reserved = from.u32();
  zero.offset = from.u64();
  zero.length = from.u64();
  if (!from.finished() || reserved != 0 || zero.length == 0) return broken("ZERO is malformed");
  return zero;
}

Result<EpochEnd> decode_epoch_end(ByteView payload) {
  ByteReader from(payload);
  EpochEnd end;
  end.data_count = from.u64();
  end.zero_count = from.u64();
  end.data_bytes = from.u64();
  end.wall_clock_ns = from.u64();
  end.vm_clock_ns = from.u64();
  std::uint32_t run_state = from.u32();
  end.run_state = static_cast<RunState>(run_state);
  end.pause_us = from.u32();
  end.drain_us = from.u32();
  end.device_us = from.u32();
  end.dirty_us = from.u32();
  end.copy_us = from.u32();
  end.ram_pages = from.u64();
  end.disk_bytes = from.u64();
  if (!from.finished() || run_state < 1 || run_state > 3) return broken("EPOCH_END is malformed");
  return end;
}

Result<State> decode_state(ByteView payload) {
  ByteReader from(payload);
  State state;
  std::uint32_t number = from.u32();
  state.state = static_cast<CaptureState>(number);
  std::uint32_t reserved = from.u32();
  state.remaining_bytes = from.u64();
  state.reason = from.string(max_reason_bytes);
  if (!from.finished() || reserved != 0 || number < 1 || number > 3 || !is_utf8(state.reason))
    return broken("STATE is malformed");
  // Whoever prints it prints one line.
  std::replace_if(
      state.reason.begin(), state.reason.end(),
      [](char c) {
        return has_control_characters({&c, 1});
      },
      ' ');
  return state;
}

Status decode_take(ByteView payload) {
  ByteReader from(payload);
  std::uint32_t flags = from.u32();
  std::uint32_t reserved = from.u32();
  if (!from.finished() || flags != 0 || reserved != 0) return broken("TAKE is malformed");
  return {};
}

Status decode_durable(ByteView payload) {
  if (!payload.empty()) return broken("DURABLE is malformed");
  return {};
}

Result<Refuse> decode_refuse(ByteView payload) {
  ByteReader from(payload);
  Refuse refuse{from.string()};
  if (!from.finished() || !is_utf8(refuse.reason)) return broken("REFUSE is malformed");
  return refuse;
}

}  // namespace ckpt::wire
