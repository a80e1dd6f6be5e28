// SPDX-License-Identifier: LGPL-2.1-or-later
//
// QEMU's side of doc/restore_format.md, for memory of our own: measures restore-agent without a guest in the way.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "guest_memory.h"

namespace bench {

class RestoreClient {
public:
  // Up to READY: the agent serves from now on.
  RestoreClient(const std::string& path, const GuestMemory& memory);

  // Until the agent says DONE; then unregisters, as QEMU does: what is missing is zero.
  void wait_done();

private:
  void send(std::uint16_t type, const ckpt::Bytes& payload, int descriptor);
  void expect(std::uint16_t type);
  static void write_blocks(ckpt::ByteWriter& out, const GuestMemory& memory);

  const GuestMemory& memory_;
  int socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace bench
