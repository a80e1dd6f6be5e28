// SPDX-License-Identifier: LGPL-2.1-or-later
#include "handover.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "memory_map.h"
#include "os/unix_socket.h"

namespace agent {

using ckpt::Bytes;
using ckpt::Code;
using ckpt::make_error;
using ckpt::Object;
using ckpt::Result;
using ckpt::Status;
using ckpt::system_error;
using std::chrono::steady_clock;

namespace {

constexpr auto handover_limit = std::chrono::seconds(10);

bool is_userfault(const os::Fd& fd) {
  std::array<char, 64> target{};
  std::string link = "/proc/self/fd/" + std::to_string(fd.get());
  ssize_t n = readlink(link.c_str(), target.data(), target.size());
  return n > 0 && std::string_view(target.data(), static_cast<std::size_t>(n)) == "anon_inode:[userfaultfd]";
}

// The descriptor of a SCM_RIGHTS message; every other one that came with it is closed.
os::Fd passed_descriptor(msghdr& message) {
  os::Fd first;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number;
      std::memcpy(&number, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
      os::Fd fd(number);
      if (!first) first = std::move(fd);
    }
  }
  return first;
}

}  // namespace

Result<std::unique_ptr<Connection>> Connection::meet(os::Fd socket, const std::vector<Object>& objects) {
  std::unique_ptr<Connection> connection(new Connection(std::move(socket), steady_clock::now() + handover_limit));
  Status met = connection->converse(objects);
  if (!met.ok()) {
    connection->refuse(met.error().context);
    return met.error();
  }
  return connection;
}

Status Connection::converse(const std::vector<Object>& objects) {
  pid_ = os::peer_pid(socket_);
  CKPT_ASSIGN(Bytes payload, receive(MessageType::hello));
  CKPT_ASSIGN(Hello hello, decode_hello(payload));
  phase_ = hello.phase;
  instance_ = hello.instance;
  if (phase_ == Phase::fresh) CKPT_TRY(send(encode_sizes(send_sequence_++, block_sizes(objects))));
  CKPT_ASSIGN(payload, receive(MessageType::memory));
  CKPT_ASSIGN(blocks_, decode_memory(payload));
  if (!userfault_ || !is_userfault(userfault_)) return make_error(Code::protocol, "MEMORY came without a userfaultfd");
  return {};
}

Status Connection::wait(short events) {
  for (;;) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - steady_clock::now());
    pollfd item{socket_.get(), events, 0};
    int n = left.count() > 0 ? poll(&item, 1, static_cast<int>(left.count())) : 0;
    if (n > 0) return {};
    if (n == 0) return make_error(Code::unavailable, "QEMU does not go on with the handover");
    if (errno != EINTR) return system_error(errno, "waiting for QEMU");
  }
}

Status Connection::receive_bytes(std::span<std::uint8_t> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    iovec part{out.data() + done, out.size() - done};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(4 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t n = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      CKPT_TRY(wait(POLLIN));
      continue;
    }
    if (n < 0) return system_error(errno, "reading from QEMU");
    if (n == 0) return make_error(Code::unavailable, "QEMU has gone");
    os::Fd passed = passed_descriptor(message);
    if (passed) userfault_ = std::move(passed);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Result<Bytes> Connection::receive(MessageType expected) {
  std::array<std::uint8_t, wire_header_bytes> head;
  CKPT_TRY(receive_bytes(head));
  CKPT_ASSIGN(MessageHeader header, decode_header(head));
  if (header.sequence != receive_sequence_++ || header.type != expected)
    return make_error(Code::protocol, "a message out of order");
  Bytes payload(header.length);
  CKPT_TRY(receive_bytes(payload));
  return payload;
}

Status Connection::send(const Bytes& message) {
  std::size_t done = 0;
  while (done < message.size()) {
    ssize_t n = ::send(socket_.get(), message.data() + done, message.size() - done, MSG_NOSIGNAL);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN || errno == EINTR) {
      CKPT_TRY(wait(POLLOUT));
    } else {
      return system_error(errno, "sending to QEMU");
    }
  }
  return {};
}

Status Connection::ready() { return send(encode_empty(send_sequence_++, MessageType::ready)); }

Status Connection::done() { return send(encode_empty(send_sequence_++, MessageType::done)); }

void Connection::refuse(const std::string& reason) { (void)send(encode_refuse(send_sequence_++, reason)); }

}  // namespace agent
