// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A guest's agent may say anything, or nothing: it costs no more time and memory than was allowed.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "common/guest_agent.h"
#include "os/unix_socket.h"
#include "temp_dir.h"

namespace ckptd {
namespace {

using ckpt::Code;

constexpr std::int64_t limit_ms = 1'000, patience_ms = 30'000;

// QEMU's end of the channel, for one client: `answer` is what the agent says to each line.
class Channel {
public:
  using Answer = std::function<std::string(const Json& request)>;

  explicit Channel(Answer answer) : answer_(std::move(answer)) {
    auto listener = os::listen_unix(path());
    EXPECT_TRUE(listener.ok());
    listener_ = listener.take();
    thread_ = std::thread([this] { serve(); });
  }
  ~Channel() {
    over_ = true;
    thread_.join();
  }
  std::string path() const { return directory_ / "agent"; }

private:
  void serve() {
    os::Fd client;
    for (; !over_ && !client; ::usleep(1'000))
      client = os::Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) return;
    int fd = client.get();
    LineChannel lines(std::move(client), 1 << 20);
    while (!over_) {
      auto line = lines.read_line(20);
      if (!line.ok() && line.error().code == Code::unavailable) continue;
      if (!line.ok() || !*line) return;
      auto request = parse_object((*line)->substr((*line)->rfind('\xff') + 1));
      if (!request.ok()) continue;
      const std::string said = answer_(*request);
      for (std::size_t done = 0; done < said.size();) {
        ssize_t put = ::send(fd, said.data() + done, said.size() - done, MSG_NOSIGNAL);
        if (put <= 0) return;
        done += static_cast<std::size_t>(put);
      }
    }
  }

  const Answer answer_;
  const ckpt::TempDir directory_;
  os::Fd listener_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

bool is_sync(const Json& request) { return text_of(request, "execute") == "guest-sync-delimited"; }

std::string synced(const Json& request) {
  return "\xff" + dump({{"return", number_of(request["arguments"], "id")}}) + "\n";
}

// Well behaved at first.
Channel::Answer then(const std::string& said) {
  return [said](const Json& request) { return is_sync(request) ? synced(request) : said; };
}

ckpt::Result<Json> asked(const Channel& channel) {
  auto agent = GuestAgent::connect(channel.path(), patience_ms);
  if (!agent.ok()) return agent.error();
  return agent->execute("guest-fsfreeze-status", limit_ms);
}

TEST(GuestAgentTest, AnswersToEarlierClientsArePassedOver) {
  Channel channel([](const Json& request) {
    if (!is_sync(request)) return std::string("{\"return\": \"thawed\"}\r\n");
    return "{\"return\": 7}\nhalf a li" + synced({{"arguments", {{"id", 1}}}}) + synced(request);
  });
  auto said = asked(channel);
  ASSERT_TRUE(said.ok()) << said.error().message();
  EXPECT_EQ(*said, Json("thawed"));
}

TEST(GuestAgentTest, ThatIsNotThereIsNotWaitedForLong) {
  Channel channel([](const Json&) { return ""; });
  auto agent = GuestAgent::connect(channel.path(), limit_ms);
  ASSERT_FALSE(agent.ok());
  EXPECT_EQ(agent.error().code, Code::unavailable);
  EXPECT_NE(agent.error().message().find("qemu-guest-agent must run"), std::string::npos) << agent.error().message();
}

TEST(GuestAgentTest, WhoseMachineHasGoneSaysSoByItsErrno) {
  const ckpt::TempDir directory;
  auto agent = GuestAgent::connect(directory / "agent", limit_ms);
  ASSERT_FALSE(agent.ok());
  EXPECT_EQ(agent.error().sys_errno, ENOENT);
}

TEST(GuestAgentTest, ItsRefusalIsQuotedOnOneLine) {
  Channel channel(then("{\"error\": {\"desc\": \"no\\nroot@host:~# \\u001b[2J" + std::string(5'000, 'x') + "\"}}\n"));
  auto said = asked(channel);
  ASSERT_FALSE(said.ok());
  EXPECT_EQ(said.error().code, Code::refused);
  const std::string message = said.error().message();
  EXPECT_LT(message.size(), 400u);
  for (unsigned char c : message) EXPECT_GE(c, ' ');
}

TEST(GuestAgentTest, WhatIsNoAnswerIsAnError) {
  for (const std::string& said :
       {std::string("[]\n"), std::string("{}\n"), std::string("{\"return\"\n"), std::string(1 << 20, '['),
        std::string(10'000, '[') + "\n", std::string(200'000, 'x') + "\n", std::string("")}) {
    Channel channel(then(said));
    auto answer = asked(channel);
    EXPECT_FALSE(answer.ok()) << said.substr(0, 20);
  }
}

TEST(GuestAgentTest, ANumberIsANumber) {
  for (const char* said :
       {"{\"return\": -1}\n", "{\"return\": \"3\"}\n", "{\"return\": null}\n", "{\"return\": 1.5}\n"}) {
    Channel channel(then(said));
    auto agent = GuestAgent::connect(channel.path(), patience_ms);
    ASSERT_TRUE(agent.ok()) << agent.error().message();
    auto count = agent->count("guest-fsfreeze-freeze", limit_ms);
    ASSERT_FALSE(count.ok()) << said;
    EXPECT_EQ(count.error().code, Code::protocol);
  }
}

TEST(GuestAgentTest, ThatSendsWithoutEndIsLeft) {
  std::string flood;
  for (int i = 0; i < 5'000; ++i) flood += "{\"return\": 1}\n";
  Channel channel([&](const Json&) { return flood; });
  EXPECT_FALSE(GuestAgent::connect(channel.path(), patience_ms).ok());
}

TEST(GuestAgentTest, ItsSocketIsInTheCommandLine) {
  const std::vector<std::string> before = {"qemu", "-chardev", "socket,id=other,path=/o", "--chardev",
                                           "socket,path=/run/a,,b,server=on,wait=off,id=ga"};
  auto with = [&](std::vector<std::string> more) {
    auto argv = before;
    argv.insert(argv.end(), more.begin(), more.end());
    return guest_agent_socket(argv);
  };
  EXPECT_EQ(with({"-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0"}), "/run/a,b");
  EXPECT_EQ(with({"-device", R"({"driver":"virtserialport","chardev":"ga","name":"org.qemu.guest_agent.0"})"}),
            "/run/a,b");
  EXPECT_EQ(with({"-device", "virtserialport,chardev=ga,name=org.example.0"}), std::nullopt);
  EXPECT_EQ(with({"-device", "virtserialport,chardev=none,name=org.qemu.guest_agent.0"}), std::nullopt);
  EXPECT_EQ(with({"-device"}), std::nullopt);
}

}  // namespace
}  // namespace ckptd
