// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "ckpt/result.h"
#include "os/fd.h"

namespace ckptd {

// Lines over a stream socket, both ways bounded in size and time.
class LineChannel {
public:
  static constexpr std::int64_t default_line_limit_ms = 30'000;

  // `line_limit_ms`: for a line, from its first byte to its last, in either direction.
  explicit LineChannel(os::Fd fd, std::size_t limit_bytes, std::int64_t line_limit_ms = default_line_limit_ms)
      : fd_(std::move(fd)), limit_bytes_(limit_bytes), line_limit_ms_(line_limit_ms) {}

  static constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();

  // All waits end, with `unavailable`, once this descriptor can be read.
  void end_with(int stop_fd) { stop_fd_ = stop_fd; }
  // Nothing: the peer has closed. idle_ms bounds the wait for the first byte, deadline_ms (monotonic) all of it.
  // Errors: limit, unavailable (too slow), io, protocol (the peer closed within a line).
  ckpt::Result<std::optional<std::string>> read_line(std::int64_t idle_ms = no_limit,
                                                     std::int64_t deadline_ms = no_limit);
  ckpt::Status write_line(std::string line);
  // True when the peer has closed both directions, or is gone.
  bool peer_closed() const;
  bool has_buffered() const { return !buffer_.empty(); }
  const os::Fd& fd() const { return fd_; }

private:
  // As poll(); also 0 when waiting is to end.
  int wait(short events, std::int64_t deadline_ms) const;

  os::Fd fd_;
  int stop_fd_ = -1;
  std::size_t limit_bytes_;
  std::int64_t line_limit_ms_;
  std::string buffer_;
};

}  // namespace ckptd
