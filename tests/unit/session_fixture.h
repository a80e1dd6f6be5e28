// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A whole agent on a store of its own, with this process in QEMU's place: its memory is missing for real, and threads
// that touch it wait in the kernel. Under the sanitizers this is what runs the agent's threads against each other.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/bytes.h"
#include "ckpt/env.h"
#include "os/unix_socket.h"
#include "session.h"
#include "temp_dir.h"

namespace agent {

using ckpt::ByteReader;
using ckpt::Bytes;
using ckpt::ByteWriter;
using ckpt::page_size_bytes;

inline constexpr std::uint64_t memory_bytes = 32 << 20;  // more leaves of the tree than a frame holds
inline constexpr std::uint64_t pages = memory_bytes / page_size_bytes;

// Every third page is zero, the others say where they belong.
inline std::uint64_t word_of(std::uint64_t page) { return page % 3 == 0 ? 0 : page * 0x9E3779B97F4A7C15; }

inline void make_store(const std::string& path) {
  auto store = ckpt::Store::open(ckpt::Env::system(), path, ckpt::StoreOptions{.create = true}).take();
  ASSERT_TRUE(store->add_machine("m", {}).ok());
  ckpt::Object ram;
  ram.object_class = ckpt::ObjectClass::ram;
  ram.name = "pc.ram";
  ram.size_bytes = memory_bytes;
  ram.page_size_bytes = page_size_bytes;
  auto epoch = store->begin_epoch("m", 1, {}, std::vector{ram}).take();
  std::vector<std::uint64_t> page(page_size_bytes / 8);
  for (std::uint64_t i = 0; i < pages; ++i) {
    std::fill(page.begin(), page.end(), word_of(i));
    std::span bytes(reinterpret_cast<const std::uint8_t*>(page.data()), page_size_bytes);
    ASSERT_TRUE(epoch->write(0, i * page_size_bytes, bytes).ok());
  }
  ckpt::EpochInfo info;
  info.wall_clock_ns = ckpt::Env::system().now_ns();
  ASSERT_TRUE(epoch->commit(info).ok());
}

// QEMU's end of doc/restore_format.md, on memory of this process.
class StandInQemu {
public:
  StandInQemu() : userfault_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))) {
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_THREAD_ID;
    usable_ = userfault_ && ioctl(userfault_.get(), UFFDIO_API, &api) == 0;
    memory_ = static_cast<std::uint64_t*>(
        mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(memory_, memory_bytes, MADV_NOHUGEPAGE);
    uffdio_register range{};
    range.range = {reinterpret_cast<std::uint64_t>(memory_), memory_bytes};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    usable_ = usable_ && ioctl(userfault_.get(), UFFDIO_REGISTER, &range) == 0;
  }
  ~StandInQemu() { munmap(memory_, memory_bytes); }

  bool usable() const { return usable_; }

  void hand_over(const std::string& path, Phase phase, std::uint32_t instance = 7,
                 MessageType answer = MessageType::ready) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    socket_ = os::Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sequence_ = 0;
    ASSERT_EQ(connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    Bytes hello;
    ByteWriter writer(hello);
    writer.u32(1);
    writer.u32(static_cast<std::uint32_t>(phase));
    for (int i = 0; i < 4; ++i) writer.u32(instance);
    write_blocks(writer);
    send(MessageType::hello, hello, false);
    if (phase == Phase::fresh) {
      ASSERT_EQ(receive(), MessageType::sizes);
    }
    Bytes memory;
    ByteWriter blocks(memory);
    write_blocks(blocks);
    send(MessageType::memory, memory, true);
    ASSERT_EQ(receive(), answer);
  }

  MessageType receive() {
    std::array<std::uint8_t, wire_header_bytes> head{};
    if (recv(socket_.get(), head.data(), head.size(), MSG_WAITALL) != static_cast<ssize_t>(head.size())) return {};
    ByteReader in(head);
    in.u32();
    auto type = static_cast<MessageType>(in.u16());
    in.u16();
    in.u64();
    std::vector<std::uint8_t> payload(in.u32());
    if (!payload.empty()) recv(socket_.get(), payload.data(), payload.size(), MSG_WAITALL);
    return type;
  }

  // As QEMU answers DONE.
  void let_go() {
    uffdio_range range{reinterpret_cast<std::uint64_t>(memory_), memory_bytes};
    ioctl(userfault_.get(), UFFDIO_UNREGISTER, &range);
    socket_.reset();
  }

  // Touches pages in an order of its own; the number of those that are not what they should be.
  std::uint64_t read_all(unsigned seed) const {
    std::vector<std::uint64_t> order(pages);
    for (std::uint64_t i = 0; i < pages; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    std::uint64_t wrong = 0;
    for (std::uint64_t page : order) {
      const volatile std::uint64_t* words = memory_ + page * (page_size_bytes / 8);
      wrong += words[seed % 512] != word_of(page);
    }
    return wrong;
  }

  std::uint64_t word(std::uint64_t page) const {
    return *static_cast<const volatile std::uint64_t*>(memory_ + page * (page_size_bytes / 8));
  }

private:
  void write_blocks(ByteWriter& writer) const {
    writer.u32(1);
    writer.u32(0);
    writer.u64(reinterpret_cast<std::uint64_t>(memory_));
    for (std::uint64_t value : {memory_bytes, memory_bytes, std::uint64_t{page_size_bytes}}) writer.u64(value);
    writer.string("pc.ram");
  }

  void send(MessageType type, const Bytes& payload, bool with_descriptor) {
    Bytes bytes;
    ByteWriter writer(bytes);
    writer.u32(0x52504B43);
    writer.u16(static_cast<std::uint16_t>(type));
    writer.u16(0);
    writer.u64(0);
    writer.u32(static_cast<std::uint32_t>(payload.size()));
    writer.u32(sequence_++);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    iovec part{bytes.data(), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (with_descriptor) {
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      cmsghdr* head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(sizeof(int));
      int fd = userfault_.get();
      std::memcpy(CMSG_DATA(head), &fd, sizeof(fd));
    }
    ASSERT_EQ(sendmsg(socket_.get(), &message, 0), static_cast<ssize_t>(bytes.size()));
  }

  os::Fd userfault_, socket_;
  std::uint64_t* memory_ = nullptr;
  bool usable_ = false;
  std::uint32_t sequence_ = 0;
};

// One agent, as main() builds it, on threads of this process.
class RunningAgent {
public:
  explicit RunningAgent(const Options& options, ckpt::Env& env = ckpt::Env::system())
      : options_(options), progress_(options_) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    signal_ = os::Fd(ends[1]);
    session_ =
        std::make_unique<Session>(options_, progress_, Source::open(options_.store, options_.checkpoint, env).take(),
                                  os::listen_unix(options_.socket, os::Listener::is_replaced).take(),
                                  os::listen_unix(options_.control, os::Listener::is_replaced).take(), os::Fd(ends[0]));
    thread_ = std::thread([this] { code_ = session_->run(); });
  }
  ~RunningAgent() {
    if (thread_.joinable()) stop();
  }

  int wait_end() {
    thread_.join();
    session_.reset();
    return code_;
  }
  int stop() {
    signalfd_siginfo info{};
    info.ssi_signo = SIGTERM;
    EXPECT_EQ(write(signal_.get(), &info, sizeof(info)), static_cast<ssize_t>(sizeof(info)));
    return wait_end();
  }
  std::string ask(const std::string& line) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    options_.control.copy(address.sun_path, sizeof(address.sun_path) - 1);
    os::Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(send(fd.get(), (line + "\n").data(), line.size() + 1, 0), static_cast<ssize_t>(line.size() + 1));
    std::string answer;
    for (char byte; recv(fd.get(), &byte, 1, 0) == 1 && byte != '\n';) answer += byte;
    return answer;
  }

  nlohmann::json status() { return nlohmann::json::parse(ask("status")); }
  nlohmann::json status_with_state(const std::string& state) {
    for (;;)
      if (auto now = status(); now["state"] == state) return now;
  }

private:
  const Options options_;
  Progress progress_;
  os::Fd signal_;
  std::unique_ptr<Session> session_;
  std::thread thread_;
  int code_ = -1;
};

class SessionTest : public testing::Test {
protected:
  void SetUp() override {
    if (!qemu_.usable()) GTEST_SKIP() << "userfaultfd cannot be used here";
    make_store(directory_ / "store");
    options_.store = directory_ / "store";
    options_.checkpoint = {"m", 1};
    options_.socket = directory_ / "agent.sock";
    options_.status = directory_ / "status";
    options_.control = directory_ / "control";
    options_.working_set = directory_ / "working-set";
  }

  // Threads in the vCPUs' place; they end when all pages were seen.
  void touch(unsigned count) {
    for (unsigned i = 0; i < count; ++i) readers_.emplace_back([this, i] { wrong_ += qemu_.read_all(i + 1); });
  }
  std::uint64_t wrong() {
    for (auto& reader : readers_) reader.join();
    readers_.clear();
    return wrong_;
  }

  void record(std::uint64_t page) {
    WorkingSet set(options_.working_set);
    set.record("pc.ram", page);
    ASSERT_TRUE(set.save().ok());
  }

  // Has a lazy agent bring the rest, and both ends part as they should.
  void complete(RunningAgent& agent, StandInQemu& qemu) {
    agent.ask("mode aggressive");
    EXPECT_EQ(qemu.receive(), MessageType::done);
    qemu.let_go();
    EXPECT_EQ(agent.wait_end(), exit_done);
  }

  ckpt::TempDir directory_;
  Options options_;
  StandInQemu qemu_;
  std::vector<std::thread> readers_;
  std::atomic<std::uint64_t> wrong_{0};
};

}  // namespace agent
