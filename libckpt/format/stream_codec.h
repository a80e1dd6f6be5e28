// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Messages of the checkpoint stream (doc/stream_format.md) to bytes and back. Pure; both directions, as tests and tools
// play the client. Decoders check everything that one message says about itself; what depends on the messages before
// it is the receiver's to check.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "ckpt/result.h"
#include "ckpt/store.h"
#include "ckpt/stream.h"
#include "format/message_head.h"

namespace ckpt::wire {

inline constexpr std::uint32_t stream_magic = 0x53504B43;
inline constexpr std::uint32_t stream_version = 1;
inline constexpr std::size_t header_bytes = message_head_bytes;
inline constexpr std::size_t data_head_bytes = 16;
inline constexpr std::size_t max_data_bytes = 1u << 20;
inline constexpr std::size_t max_objects = 1024;
inline constexpr std::size_t max_string_bytes = 255;
inline constexpr std::size_t max_reason_bytes = 1024;
inline constexpr std::uint64_t max_object_bytes = 1ull << 46;
inline constexpr std::uint64_t max_device_state_bytes = 64ull << 20;
inline constexpr std::uint64_t epoch_limit = 1ull << 48;
inline constexpr std::uint64_t ram_alignment = 4096;
inline constexpr std::uint64_t disk_alignment = 512;

enum class Type : std::uint16_t {
  hello = 1,
  epoch_begin = 2,
  data = 3,
  zero = 4,
  epoch_end = 5,
  state = 6,
  welcome = 65,
  take = 66,
  durable = 67,
  refuse = 68,
};

struct Header {
  Type type = Type::hello;
  std::uint64_t epoch = 0;
  std::uint32_t length = 0;
  std::uint32_t sequence = 0;
};

struct Hello {
  std::uint32_t version = stream_version;
  std::uint32_t page_size = 4096;
  std::array<std::uint8_t, 16> instance{};
  std::array<std::uint8_t, 16> uuid{};
  std::uint64_t acked_epoch = 0;
  std::uint64_t closed_epoch = 0;
  std::string qemu_version;
  std::string machine_type;
  std::string base;
};

enum class WelcomeMode : std::uint32_t { full = 1, continue_ = 2 };

struct Welcome {
  std::uint32_t version = stream_version;
  WelcomeMode mode = WelcomeMode::full;
  std::uint64_t next_epoch = 0;
  std::uint64_t last_durable = 0;
  std::uint32_t interval_ms = 0;
};

enum class EpochKind : std::uint32_t { full = 1, incremental = 2 };

struct NumberedObject {
  std::uint32_t number = 0;
  Object object;
};

struct EpochBegin {
  EpochKind kind = EpochKind::full;
  std::vector<NumberedObject> objects;
};

// `bytes` is a view into what was decoded.
struct Data {
  std::uint32_t object = 0;
  std::uint64_t offset = 0;
  ByteView bytes;
};

struct Zero {
  std::uint32_t object = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

struct EpochEnd {
  std::uint64_t data_count = 0;
  std::uint64_t zero_count = 0;
  std::uint64_t data_bytes = 0;
  std::uint64_t wall_clock_ns = 0;
  std::uint64_t vm_clock_ns = 0;
  RunState run_state = RunState::running;
  std::uint32_t pause_us = 0;
  std::uint32_t drain_us = 0;
  std::uint32_t device_us = 0;
  std::uint32_t dirty_us = 0;
  std::uint32_t copy_us = 0;
  std::uint64_t ram_pages = 0;
  std::uint64_t disk_bytes = 0;
};

struct State {
  CaptureState state = CaptureState::copying;
  std::uint64_t remaining_bytes = 0;
  std::string reason;
};

struct Refuse {
  std::string reason;
};

// The largest payload that a type can have; what announces more is refused before anything is kept for it.
std::size_t max_payload_bytes(Type type);

// Needs header_bytes of input. Errors (protocol): magic, type, reserved, epoch, length over the type's limit.
Result<Header> decode_header(ByteView bytes);

// Each takes one whole payload. Errors are protocol; decode_hello and decode_welcome say version for a newer one,
// whatever else is in it.
Result<Hello> decode_hello(ByteView payload);
Result<Welcome> decode_welcome(ByteView payload);
Result<EpochBegin> decode_epoch_begin(ByteView payload);
Result<Data> decode_data(ByteView payload);
Result<Zero> decode_zero(ByteView payload);
Result<EpochEnd> decode_epoch_end(ByteView payload);
Result<State> decode_state(ByteView payload);
Status decode_take(ByteView payload);
Status decode_durable(ByteView payload);
Result<Refuse> decode_refuse(ByteView payload);

// Where the bytes of one direction of a connection go: numbers the messages and appends them to a buffer.
class StreamWriter {
public:
  explicit StreamWriter(Bytes& out) : out_(out) {}

  void hello(const Hello& hello);
  void welcome(const Welcome& welcome);
  void epoch_begin(std::uint64_t epoch, const EpochBegin& begin);
  void data(std::uint64_t epoch, const Data& data);
  void zero(std::uint64_t epoch, const Zero& zero);
  void epoch_end(std::uint64_t epoch, const EpochEnd& end);
  void state(std::uint64_t epoch, const State& state);
  void take(std::uint64_t epoch);
  void durable(std::uint64_t epoch);
  void refuse(const Refuse& refuse);

  std::uint32_t next_sequence() const { return sequence_; }

private:
  std::size_t open(Type type, std::uint64_t epoch);
  void close(std::size_t start);

  Bytes& out_;
  std::uint32_t sequence_ = 0;
};

}  // namespace ckpt::wire
