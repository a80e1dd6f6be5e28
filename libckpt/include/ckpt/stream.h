// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The checkpoint stream, server side: bytes of one QEMU connection in, store epochs and answers out.
// Wire format: doc/stream_format.md. Does no I/O of its own on the socket: feed() it what was read, send what it
// answers. That makes it testable and fuzzable byte by byte. A receiver belongs to one connection and is used by one
// thread at a time; the Store must outlive it. Destroying it abandons the open epoch.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ckpt/result.h"
#include "ckpt/store.h"

namespace ckpt {

// What QEMU said of itself in HELLO.
struct StreamHello {
  std::array<std::uint8_t, 16> instance{};
  std::array<std::uint8_t, 16> uuid{};
  std::uint64_t acked_epoch = 0;
  std::uint64_t closed_epoch = 0;
  std::string qemu_version;
  std::string machine_type;
  std::string base;  // what the machine says it was restored from; empty: it was booted
};

// The numbers are those of the stream's STATE messages.
enum class CaptureState : std::uint32_t { copying = 1, capturing = 2, suspended = 3 };

// Timings of one epoch as QEMU measured them, and what it carried.
struct EpochFigures {
  std::uint64_t number = 0;
  std::uint64_t wall_clock_ns = 0;
  std::uint32_t pause_us = 0, drain_us = 0, device_us = 0, dirty_us = 0, copy_us = 0;
  std::uint64_t ram_pages = 0, disk_bytes = 0, data_bytes = 0, stored_bytes = 0;
};

class StreamReceiver {
public:
  struct Options {
    std::string machine;
    std::uint32_t interval_ms = 1000;
    std::string config;  // JSON kept with every checkpoint: what is needed to build the same machine again
  };
  // What holds for one connection.
  struct Terms {
    // What hello.base stands for. A claim is no proof: whoever began the restore says it here. Number 0: none, and
    // everything is copied.
    CheckpointId base;
    bool start_anew = false;            // QEMU must send everything: what its checkpoints rest on cannot be read
    std::optional<std::string> config;  // instead of Options::config
  };
  // As EpochInfo has them.
  struct Closed {
    bool application_consistent = false, frozen = false;
  };
  // Called from within feed(), on the thread that called it.
  struct Events {
    std::function<Status(const StreamHello&)> hello;  // an error refuses the connection, its context becomes REFUSE
    std::function<Terms(const StreamHello&)> terms;   // after hello; no function: neither base nor start_anew
    // The instant of this epoch is past: what the guest does from now on is in the next one. What its checkpoint will
    // say of it; no function: nothing.
    std::function<Closed(std::uint64_t epoch)> closed;
    std::function<void(const CheckpointInfo&, const EpochFigures&)> committed;
    std::function<void(CaptureState, std::uint64_t remaining_bytes, const std::string& reason)> state;
  };

  static std::unique_ptr<StreamReceiver> create(Store& store, Options options, Events events);
  virtual ~StreamReceiver() = default;

  // Takes bytes of the connection in the order read. On an error the connection must be closed after sending what
  // output() holds (it may hold a REFUSE); nothing uncommitted is kept. no_space means: the epoch could not be stored,
  // older checkpoints are whole; close, and let QEMU connect again later.
  virtual Status feed(std::span<const std::uint8_t> bytes) = 0;

  // Asks QEMU to close the open epoch. False: not now (one is under way, capture is suspended, or the last is not
  // durable).
  virtual bool take() = 0;

  // Bytes to send to QEMU, in order; the caller removes what it has sent.
  virtual std::vector<std::uint8_t>& output() = 0;

  // Bytes still missing of the message under way; 0 between messages. For the stall limit.
  virtual std::size_t missing_bytes() const = 0;
  // 0: none.
  virtual std::uint64_t open_epoch() const = 0;
};

}  // namespace ckpt
