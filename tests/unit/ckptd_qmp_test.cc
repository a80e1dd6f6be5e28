// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A QEMU that hangs, or never stops talking, holds up nobody for longer than was allowed.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "common/qmp.h"
#include "os/unix_socket.h"
#include "temp_dir.h"

namespace ckptd {
namespace {

constexpr int limit_ms = 1'000;
constexpr int endless_ms = 3'600'000;  // no test lasts so long

// Greets, takes the capabilities, and then says events for ever or nothing at all.
class Monitor {
public:
  explicit Monitor(bool talks) : talks_(talks) {
    auto listener = os::listen_unix(path());
    EXPECT_TRUE(listener.ok());
    listener_ = listener.take();
    thread_ = std::thread([this] { serve(); });
  }
  ~Monitor() {
    over_ = true;
    thread_.join();
  }
  std::string path() const { return directory_ / "qmp"; }

private:
  void serve() {
    os::Fd client;
    for (; !over_ && !client; ::usleep(1'000))
      client = os::Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) return;
    LineChannel channel(std::move(client), 65'536);
    (void)channel.write_line(R"({"QMP": {}})");
    (void)channel.read_line();
    (void)channel.write_line(R"({"return": {}})");
    for (; !over_; ::usleep(20'000))
      if (talks_) (void)channel.write_line(R"({"event": "RTC_CHANGE"})");
  }

  const bool talks_;
  const ckpt::TempDir directory_;
  os::Fd listener_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

TEST(Qmp, EventsBuyACommandNoTime) {
  Monitor monitor(true);
  auto qmp = Qmp::connect(monitor.path(), limit_ms);
  ASSERT_TRUE(qmp.ok()) << qmp.error().message();
  auto answer = qmp->execute("query-status");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ckpt::Code::unavailable);
}

TEST(Qmp, IsLeftAtOnceWhenItsUserEnds) {
  Monitor monitor(false);
  os::Fd stop(::eventfd(0, EFD_CLOEXEC));
  auto qmp = Qmp::connect(monitor.path(), endless_ms, stop.get());
  ASSERT_TRUE(qmp.ok()) << qmp.error().message();
  std::thread ender([&] {
    ::usleep(100'000);
    ::eventfd_write(stop.get(), 1);
  });
  auto answer = qmp->execute("query-status");
  ender.join();
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ckpt::Code::unavailable);
  // And nothing new is begun.
  EXPECT_FALSE(Qmp::connect(monitor.path(), endless_ms, stop.get()).ok());
}

TEST(Qmp, ThatTakesNoConnectionIsNotWaitedFor) {
  Monitor monitor(false);
  auto first = Qmp::connect(monitor.path(), limit_ms);
  ASSERT_TRUE(first.ok());
  // As many as it lets wait, and those that it does not.
  std::vector<os::Fd> waiting;
  for (int i = 0; i < 200; ++i) {
    auto fd = os::connect_unix_at_once(monitor.path());
    if (!fd.ok()) return;
    waiting.push_back(fd.take());
  }
  FAIL() << "the listener took all";
}

}  // namespace
}  // namespace ckptd
