// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Meets QEMU on the agent's socket: doc/restore_format.md. Blocking, with time limits; one machine at a time.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/result.h"
#include "ckpt/store.h"
#include "os/fd.h"
#include "wire.h"

namespace agent {

// What a QEMU has handed over. It waits for ready() before it touches its memory, when it is fresh.
class Connection {
public:
  // Takes the handover on an accepted connection. A QEMU that does not fit gets a REFUSE with the reason that is
  // returned as an error.
  static ckpt::Result<std::unique_ptr<Connection>> meet(os::Fd socket, const std::vector<ckpt::Object>& objects);

  Phase phase() const { return phase_; }
  pid_t pid() const { return pid_; }
  // The same for all connections of one QEMU.
  const std::array<std::uint8_t, 16>& instance() const { return instance_; }
  const std::vector<RamBlock>& blocks() const { return blocks_; }
  int descriptor() const { return socket_.get(); }
  os::Fd take_userfault() { return std::move(userfault_); }

  ckpt::Status ready();
  ckpt::Status done();
  void refuse(const std::string& reason);

private:
  using Deadline = std::chrono::steady_clock::time_point;

  Connection(os::Fd socket, Deadline deadline) : socket_(std::move(socket)), deadline_(deadline) {}
  ckpt::Status converse(const std::vector<ckpt::Object>& objects);
  ckpt::Result<ckpt::Bytes> receive(MessageType expected);
  ckpt::Status receive_bytes(std::span<std::uint8_t> out);
  ckpt::Status send(const ckpt::Bytes& message);
  ckpt::Status wait(short events);

  os::Fd socket_;
  const Deadline deadline_;
  Phase phase_ = Phase::fresh;
  pid_t pid_ = 0;
  std::array<std::uint8_t, 16> instance_{};
  std::vector<RamBlock> blocks_;
  os::Fd userfault_;
  std::uint32_t send_sequence_ = 0;
  std::uint32_t receive_sequence_ = 0;
};

}  // namespace agent
