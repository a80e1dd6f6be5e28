// SPDX-License-Identifier: LGPL-2.1-or-later
#include "socket_session.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace ckpt::tools {
namespace {

constexpr std::size_t pump_bytes = 1 << 20;
constexpr auto retry_pause = std::chrono::milliseconds(100);

class Socket {
public:
  Socket() = default;
  Socket(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }

  bool connect(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return false;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0 || ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return false;
    return ::fcntl(fd_, F_SETFL, O_NONBLOCK) == 0;
  }
  int fd() const { return fd_; }

private:
  int fd_ = -1;
};

bool would_block() { return errno == EAGAIN || errno == EINTR; }

// One connection from HELLO to its end.
class Connection {
public:
  Connection(StreamClient& client, const SocketOptions& options, const std::uint64_t& durable, std::string& why)
      : client_(client), options_(options), durable_(durable), why_(why) {}

  SocketEnd run() {
    if (!socket_.connect(options_.path)) return lost(std::string("connecting: ") + std::strerror(errno));
    client_.connect();
    if (options_.misbehaviour == Misbehaviour::version) client_.output()[wire::header_bytes] = 2;
    while (!done()) {
      if (auto end = step()) return *end;
    }
    return SocketEnd::done;
  }

private:
  bool done() const { return options_.epochs != 0 && durable_ >= options_.epochs; }

  SocketEnd lost(std::string why) {
    why_ = std::move(why);
    return SocketEnd::lost;
  }

  std::optional<SocketEnd> step() {
    if (sent_ == client_.output().size() && !silent_) {
      client_.output().clear();
      sent_ = 0;
      misbehave();
      if (!silent_) client_.pump(pump_bytes);
    }
    bool has_output = sent_ < client_.output().size();
    if (!has_output && silent_ && options_.misbehaviour == Misbehaviour::truncate) return lost("cut off by this end");
    pollfd poll{socket_.fd(), static_cast<short>(has_output ? POLLIN | POLLOUT : POLLIN), 0};
    if (::poll(&poll, 1, -1) < 0 && errno != EINTR) return lost(std::strerror(errno));
    if ((poll.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
      if (auto end = receive()) return end;
    if (has_output && (poll.revents & POLLOUT) != 0) return send();
    return {};
  }

  std::optional<SocketEnd> receive() {
    std::array<std::uint8_t, 4096> buffer;
    ssize_t count = ::recv(socket_.fd(), buffer.data(), buffer.size(), 0);
    if (count < 0) return would_block() ? std::optional<SocketEnd>() : lost(std::strerror(errno));
    if (count == 0) return lost("the server closed the connection");
    Status status = client_.feed(ByteView(buffer.data(), static_cast<std::size_t>(count)));
    if (status.ok()) return {};
    why_ = status.error().message();
    return status.error().code == Code::refused ? SocketEnd::refused : SocketEnd::lost;
  }

  std::optional<SocketEnd> send() {
    Bytes& output = client_.output();
    ssize_t count = ::send(socket_.fd(), output.data() + sent_, output.size() - sent_, MSG_NOSIGNAL);
    // A refusal may wait behind a broken pipe: the next read finds it.
    if (count < 0) return would_block() || errno == EPIPE ? std::optional<SocketEnd>() : lost(std::strerror(errno));
    sent_ += static_cast<std::size_t>(count);
    return {};
  }

  // At a message's end, once, when it is time for it.
  void misbehave() {
    bool due = options_.misbehaviour != Misbehaviour::none && durable_ >= options_.misbehave_after;
    if (!due || client_.open_epoch() == 0) return;
    Bytes& output = client_.output();
    switch (options_.misbehaviour) {
      case Misbehaviour::truncate:
        output = data_message(client_.open_epoch());
        output.resize(output.size() / 2);
        break;
      case Misbehaviour::replay:
        wire::StreamWriter(output).hello({});
        break;
      case Misbehaviour::foreign_epoch:
        output = data_message(client_.open_epoch() + 7);
        break;
      case Misbehaviour::oversize:
        output = data_message(client_.open_epoch());
        store_le<std::uint32_t>(output.data() + 16, 0xFFFFFFFF);
        break;
      case Misbehaviour::garbage:
        output.assign(4096, 1);
        break;
      case Misbehaviour::none:
      case Misbehaviour::version:
        return;
    }
    silent_ = true;
  }

  // What the client could rightly send next.
  Bytes data_message(std::uint64_t epoch) const {
    Bytes message;
    wire::StreamWriter(message).data(epoch, {0, 0, Bytes(4096, 1)});
    store_le(message.data() + 20, client_.next_sequence());
    return message;
  }

  StreamClient& client_;
  const SocketOptions& options_;
  const std::uint64_t& durable_;
  std::string& why_;
  Socket socket_;
  std::size_t sent_ = 0;
  bool silent_ = false;
};

}  // namespace

SocketEnd run_socket_session(StreamClient& client, const SocketOptions& options, const std::uint64_t& durable,
                             std::string& why) {
  for (std::uint64_t attempt = 0;; ++attempt) {
    SocketEnd end = Connection(client, options, durable, why).run();
    if (end != SocketEnd::lost || attempt >= options.reconnects) return end;
    std::this_thread::sleep_for(retry_pause);
  }
}

}  // namespace ckpt::tools
