// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The client side of the checkpoint stream, playing the machine of machine_model.h as QEMU would: a full copy first,
// disk writes as they happen, pages copied ahead of the pause and behind it. Does no I/O: feed() it what the server
// sent, send what output() holds, call pump() for more.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "format/stream_codec.h"
#include "machine_model.h"
#include "stream/message_reader.h"

namespace ckpt::tools {

struct ClientOptions {
  std::uint64_t dirty_pages = 100;  // an epoch
  std::uint64_t disk_writes = 20;   // an epoch, of 512 bytes each
  std::array<std::uint8_t, 16> instance{};
  std::array<std::uint8_t, 16> uuid{};
  std::string base;
  bool real_clock = false;  // else a second passes between epochs, so that the bytes are always the same
};

class StreamClient {
public:
  struct Events {
    std::function<void(const wire::Welcome&)> welcome;
    // What the checkpoint must hold once it is durable.
    std::function<void(std::uint64_t epoch, const MachineDigest&)> closed;
    std::function<void(std::uint64_t epoch)> durable;
  };

  StreamClient(MachineModel& model, const ClientOptions& options, Events events);

  // A new connection: what was sent and is not durable becomes dirty again, and HELLO is due.
  void connect();
  // An error (refused: the server's words) ends the connection.
  Status feed(ByteView bytes);
  // Writes more of what is due until output() has about `limit` bytes or nothing is due.
  void pump(std::size_t limit);
  Bytes& output() { return output_; }

  std::uint64_t acked_epoch() const { return acked_epoch_; }
  std::uint64_t closed_epoch() const { return closed_epoch_; }
  std::uint64_t open_epoch() const { return open_epoch_; }
  std::uint32_t next_sequence() const { return writer_->next_sequence(); }

private:
  enum Flag : std::uint8_t { dirty = 1, in_open = 2, in_closed = 4 };
  struct Counts {
    std::uint64_t data_count = 0, zero_count = 0, data_bytes = 0;
  };
  // A place of the closed epoch that is still to be sent, as it was at the pause.
  struct Captured {
    std::uint64_t unit;
    std::uint32_t version;
  };

  Status on_message(const wire::Header& header, ByteView payload);
  Status on_welcome(ByteView payload);
  Status on_take(std::uint64_t epoch);
  Status on_durable(std::uint64_t epoch);

  void begin_epoch(std::uint64_t number, wire::EpochKind kind);
  void run_guest(std::uint64_t pages, std::uint64_t writes);
  void copy_step();
  void close_epoch();
  void close_step();
  void end_closed();
  void send_unit(std::uint64_t epoch, Counts& counts, std::size_t object, std::uint64_t unit, std::uint32_t version);
  void send_data(std::uint64_t epoch, Counts& counts, const wire::Data& data);

  MachineModel& model_;
  ClientOptions options_;
  Events events_;
  Random random_;
  Bytes output_;
  std::optional<wire::StreamWriter> writer_;
  MessageReader reader_;
  std::array<std::vector<std::uint8_t>, MachineModel::count> flags_;

  std::uint64_t acked_epoch_ = 0;
  std::uint64_t closed_epoch_ = 0;
  std::uint64_t open_epoch_ = 0;
  bool copying_ = false;
  bool take_waits_ = false;  // for the copy to end
  bool closing_ = false;     // the closed epoch has not been sent in full
  bool full_ = false;
  std::size_t copy_object_ = 0;
  std::uint64_t copy_unit_ = 0;
  std::vector<Captured> captured_;
  std::size_t captured_sent_ = 0;
  Bytes device_state_;
  Counts open_counts_, closed_counts_;
};

}  // namespace ckpt::tools
