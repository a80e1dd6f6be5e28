// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/control_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <system_error>

#include "common/line_channel.h"
#include "daemon/log.h"
#include "daemon/verbs.h"
#include "os/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr unsigned connection_limit = 64;
constexpr int stop_check_ms = 200;

void turn_away(os::Fd fd, const std::string& reason) {
  auto busy = make_error(Code::busy, reason + ": try again later");
  (void)LineChannel(std::move(fd), json_line_limit_bytes).write_line(dump(error_answer(busy)));
}

}  // namespace

ControlServer::~ControlServer() {
  if (thread_.joinable()) thread_.join();
  {
    // Nobody waits any longer for a client that stalls.
    std::unique_lock lock(mutex_);
    for (int fd : connections_) ::shutdown(fd, SHUT_RDWR);
    left_.wait(lock, [this] { return connections_.empty(); });
  }
  if (listener_) ::unlink(daemon_.run_dir().control_socket().c_str());
}

bool ControlServer::enter(int fd) {
  std::lock_guard lock(mutex_);
  return connections_.size() < connection_limit && connections_.insert(fd).second;
}

void ControlServer::leave(int fd) {
  std::lock_guard lock(mutex_);
  connections_.erase(fd);
  left_.notify_all();
}

ckpt::Status ControlServer::start() {
  CKPT_ASSIGN(listener_, os::listen_unix(daemon_.run_dir().control_socket()));
  thread_ = std::thread([this] { accept_loop(); });
  return {};
}

void ControlServer::accept_loop() {
  while (!daemon_.stopping()) {
    pollfd entry{listener_.get(), POLLIN, 0};
    if (::poll(&entry, 1, stop_check_ms) <= 0) continue;
    auto fd = os::accept_unix(listener_);
    if (!fd.ok()) continue;
    if (!enter(fd->get())) {
      turn_away(fd.take(), "ckptd serves 64 connections already");
      continue;
    }
    auto taken = std::make_shared<os::Fd>(fd.take());
    try {
      std::thread([this, taken] { serve(std::move(*taken)); }).detach();
    } catch (const std::system_error& error) {
      leave(taken->get());
      turn_away(std::move(*taken), "ckptd can start no thread (" + error.code().message() + ")");
    }
  }
}

void ControlServer::serve(os::Fd fd) {
  LineChannel channel(std::move(fd), json_line_limit_bytes, daemon_.options().stall_limit_ms);
  // Left before the descriptor is closed, and this object not touched afterwards: it may be gone.
  struct Leave {
    ControlServer& server;
    int fd;
    ~Leave() { server.leave(fd); }
  } leave_at_end{*this, channel.fd().get()};
  while (!daemon_.stopping()) {
    pollfd entry{channel.fd().get(), POLLIN, 0};
    if (!channel.has_buffered() && ::poll(&entry, 1, stop_check_ms) == 0) continue;
    auto line = channel.read_line(stop_check_ms);
    if (!line.ok()) {
      (void)channel.write_line(dump(error_answer(line.error())));
      return;
    }
    if (!*line) return;
    auto request = parse_object(**line);
    if (!request.ok()) {
      (void)channel.write_line(dump(error_answer(request.error())));
      return;
    }
    Verbs::Reply reply{[&](Json answer) {
                         answer["ok"] = true;
                         answer["more"] = true;
                         return channel.write_line(dump(answer)).ok();
                       },
                       [&] { return channel.peer_closed() || daemon_.stopping(); },
                       process_id(os::peer_pid(channel.fd()))};
    auto answer = Verbs(daemon_, supervisor_, domains_).handle(*request, reply);
    Json json = answer.ok() ? *answer : error_answer(answer.error());
    if (answer.ok()) json["ok"] = true;
    if (!channel.write_line(dump(json)).ok()) return;
  }
}

}  // namespace ckptd
