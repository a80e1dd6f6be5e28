// SPDX-License-Identifier: LGPL-2.1-or-later
#include "restore_client.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "wire.h"

namespace bench {

using agent::MessageType;
using ckpt::Bytes;
using ckpt::ByteWriter;

namespace {

constexpr std::uint32_t magic = 0x52504B43;
constexpr int connect_tries = 500;

std::uint16_t number(MessageType type) { return static_cast<std::uint16_t>(type); }

// The agent makes its socket while it starts.
int connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) fail_plain(path + " is too long a path");
  std::memcpy(address.sun_path, path.data(), path.size());
  for (int i = 0; i < connect_tries; ++i) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
    close(fd);
    usleep(20'000);
  }
  fail(path);
}

void receive(int fd, std::uint8_t* out, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    ssize_t n = recv(fd, out + done, bytes - done, 0);
    if (n <= 0) fail("the agent has gone");
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace

void RestoreClient::write_blocks(ByteWriter& out, const GuestMemory& memory) {
  out.u32(static_cast<std::uint32_t>(memory.blocks().size()));
  out.u32(0);
  for (const Block& block : memory.blocks()) {
    out.u64(reinterpret_cast<std::uint64_t>(block.memory));
    out.u64(block.bytes);
    out.u64(block.bytes);
    out.u64(page_bytes);
    out.string(block.name);
  }
}

RestoreClient::RestoreClient(const std::string& path, const GuestMemory& memory)
    : memory_(memory), socket_(connect_to(path)) {
  Bytes hello, table;
  ByteWriter head(hello);
  head.u32(1);
  head.u32(static_cast<std::uint32_t>(agent::Phase::fresh));
  head.zeroes(16);
  write_blocks(head, memory);
  ByteWriter blocks(table);
  write_blocks(blocks, memory);
  send(number(MessageType::hello), hello, -1);
  expect(number(MessageType::sizes));
  send(number(MessageType::memory), table, memory.userfault());
  expect(number(MessageType::ready));
}

void RestoreClient::send(std::uint16_t type, const Bytes& payload, int descriptor) {
  Bytes message;
  ByteWriter out(message);
  out.u32(magic);
  out.u16(type);
  out.u16(0);
  out.u64(0);
  out.u32(static_cast<std::uint32_t>(payload.size()));
  out.u32(sequence_++);
  out.bytes(payload);
  iovec part{message.data(), message.size()};
  msghdr envelope{};
  envelope.msg_iov = &part;
  envelope.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  if (descriptor >= 0) {
    envelope.msg_control = room.data();
    envelope.msg_controllen = room.size();
    cmsghdr* head = CMSG_FIRSTHDR(&envelope);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(head), &descriptor, sizeof(int));
  }
  if (sendmsg(socket_, &envelope, MSG_NOSIGNAL) != static_cast<ssize_t>(message.size())) fail("sending to the agent");
}

void RestoreClient::expect(std::uint16_t type) {
  std::array<std::uint8_t, agent::wire_header_bytes> head;
  receive(socket_, head.data(), head.size());
  ckpt::ByteReader in(head);
  bool ours = in.u32() == magic;
  std::uint16_t received = in.u16();
  in.skip(10);
  std::uint32_t length = in.u32();
  if (!ours || length > agent::wire_payload_limit) fail_plain("what answers is no restore-agent");
  Bytes payload(length);
  receive(socket_, payload.data(), payload.size());
  if (received == number(MessageType::refuse)) fail_plain("refused: " + std::string(payload.begin(), payload.end()));
  if (received != type) fail_plain("the agent sent message " + std::to_string(received));
}

void RestoreClient::wait_done() {
  expect(number(MessageType::done));
  for (const Block& block : memory_.blocks()) {
    uffdio_range range{reinterpret_cast<std::uint64_t>(block.memory), block.bytes};
    if (ioctl(memory_.userfault(), UFFDIO_UNREGISTER, &range) != 0) fail("UFFDIO_UNREGISTER");
  }
  close(socket_);
}

}  // namespace bench
