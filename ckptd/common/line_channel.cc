// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/line_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "common/clock.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::int64_t longest_wait_ms = std::numeric_limits<int>::max();

}  // namespace

int LineChannel::wait(short events, std::int64_t deadline_ms) const {
  std::int64_t wait_ms = std::clamp<std::int64_t>(deadline_ms - monotonic_ms(), 0, longest_wait_ms);
  pollfd entries[] = {{fd_.get(), events, 0}, {stop_fd_, POLLIN, 0}};
  int ready = ::poll(entries, 2, static_cast<int>(wait_ms));
  return ready > 0 && entries[1].revents ? 0 : ready;
}

ckpt::Result<std::optional<std::string>> LineChannel::read_line(std::int64_t idle_ms, std::int64_t deadline_ms) {
  std::int64_t line_deadline_ms = idle_ms == no_limit ? no_limit : monotonic_ms() + idle_ms;
  bool begun = !buffer_.empty();
  if (begun) line_deadline_ms = monotonic_ms() + line_limit_ms_;
  std::size_t searched = 0;
  for (;;) {
    auto end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return std::optional<std::string>(std::move(line));
    }
    searched = buffer_.size();
    if (buffer_.size() > limit_bytes_)
      return make_error(Code::limit, "a line is longer than " + std::to_string(limit_bytes_) + " bytes");
    int ready = wait(POLLIN, std::min(line_deadline_ms, deadline_ms));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return ckpt::system_error(errno, "poll");
    if (ready == 0) return make_error(Code::unavailable, "the other end has not sent a whole line in time");
    char bytes[65536];
    ssize_t got = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return ckpt::system_error(errno, "receive");
    if (got == 0) {
      if (buffer_.empty()) return std::optional<std::string>();
      return make_error(Code::protocol, "the connection ended within a line");
    }
    if (!begun) line_deadline_ms = monotonic_ms() + line_limit_ms_;
    begun = true;
    buffer_.append(bytes, static_cast<std::size_t>(got));
  }
}

ckpt::Status LineChannel::write_line(std::string line) {
  line += '\n';
  std::int64_t deadline_ms = monotonic_ms() + line_limit_ms_;
  for (std::size_t done = 0; done < line.size();) {
    ssize_t put = ::send(fd_.get(), line.data() + done, line.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put > 0) {
      done += static_cast<std::size_t>(put);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return ckpt::system_error(errno, "send");
    if (wait(POLLOUT, deadline_ms) == 0) return make_error(Code::unavailable, "the other end does not read");
  }
  return {};
}

bool LineChannel::peer_closed() const {
  pollfd entry{fd_.get(), 0, 0};
  return ::poll(&entry, 1, 0) > 0;  // POLLHUP or POLLERR: the next request, or the end of requests, is no end
}

}  // namespace ckptd
