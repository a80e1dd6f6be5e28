// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <optional>
#include <string>

#include "ckpt/result.h"
#include "common/fd.h"

namespace ckptd {

// Lines over a stream socket, both ways bounded in size and time.
class LineChannel {
public:
  static constexpr std::int64_t default_line_limit_ms = 30'000;

  // `line_limit_ms`: for a line, from its first byte to its last, in either direction.
  explicit LineChannel(Fd fd, std::size_t limit_bytes, std::int64_t line_limit_ms = default_line_limit_ms)
      : fd_(std::move(fd)), limit_bytes_(limit_bytes), line_limit_ms_(line_limit_ms) {}

  // Nothing: the peer has closed. idle_ms bounds the wait for the first byte (-1: for ever).
  // Errors: limit, unavailable (too slow), io, protocol (the peer closed within a line).
  ckpt::Result<std::optional<std::string>> read_line(int idle_ms);
  ckpt::Status write_line(std::string line);
  // True when the peer has closed its end or sent something meanwhile.
  bool peer_closed() const;
  bool has_buffered() const { return !buffer_.empty(); }
  int fd() const { return fd_.get(); }

private:
  Fd fd_;
  std::size_t limit_bytes_;
  std::int64_t line_limit_ms_;
  std::string buffer_;
};

}  // namespace ckptd
