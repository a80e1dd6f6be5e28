// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What --probe takes, and what counts as an answer.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/probe_target.h"
#include "common/process.h"
#include "probe/attempt.h"
#include "temp_dir.h"

namespace ckptd {
namespace {

TEST(ProbeTarget, IsUnderstood) {
  auto tcp = parse_probe("tcp:db.example:5432");
  ASSERT_TRUE(tcp.ok());
  EXPECT_EQ(tcp->host + "|" + tcp->port + "|" + tcp->line, "db.example|5432|");
  tcp = parse_probe("tcp:[fe80::1]:7=GET a=b");
  ASSERT_TRUE(tcp.ok());
  EXPECT_EQ(tcp->host + "|" + tcp->port + "|" + tcp->line, "fe80::1|7|GET a=b");
  auto http = parse_probe("http://host");
  ASSERT_TRUE(http.ok());
  EXPECT_EQ(http->host + "|" + http->port + "|" + http->path, "host|80|/");
  http = parse_probe("http://host:8080/a?b=c&d=1234=204");
  ASSERT_TRUE(http.ok());
  EXPECT_EQ(http->path, "/a?b=c&d=1234");
  EXPECT_EQ(http->http_status, 204u);
  auto command = parse_probe("exec:pg_isready -h x");
  ASSERT_TRUE(command.ok());
  EXPECT_EQ(command->command, "pg_isready -h x");
}

TEST(ProbeTarget, IsRefusedWithACure) {
  for (const char* bad :
       {"", "tcp", "tcp:", "tcp:host", "tcp::7", "tcp:host:0", "tcp:host:65536", "tcp:host:7x", "tcp:[::1",
        "tcp:[::1]7", "http://", "http://:80", "http:/x", "https://host", "exec:", "tcp:h:7=a\nb"}) {
    auto probe = parse_probe(bad);
    ASSERT_FALSE(probe.ok()) << bad;
    EXPECT_NE(probe.error().context.find("give tcp:HOST:PORT"), std::string::npos) << bad;
  }
  EXPECT_FALSE(parse_probe("exec:" + std::string(5000, 'a')).ok());
}

// A server on the loopback that takes one connection and says `answer`.
class Server {
public:
  explicit Server(std::string answer) : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length);
    ::listen(listener_.get(), 4);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length);
    port_ = std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this, answer] {
      os::Fd client(::accept(listener_.get(), nullptr, nullptr));
      char bytes[512];
      if (answer.empty() || answer[0] == 'H' || answer[0] == '>') {
        ssize_t got = ::recv(client.get(), bytes, sizeof(bytes), 0);
        heard_.assign(bytes, got > 0 ? static_cast<std::size_t>(got) : 0);
      }
      if (!answer.empty()) (void)!::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    });
  }
  ~Server() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  const std::string& port() const { return port_; }
  const std::string& heard() const { return heard_; }

private:
  os::Fd listener_;
  std::string port_, heard_;
  std::thread thread_;
};

std::pair<Attempt::Outcome, std::string> ask(const std::string& text) {
  auto target = parse_probe(text);
  EXPECT_TRUE(target.ok()) << text;
  Addresses addresses;
  if (target->kind != ProbeTarget::Kind::exec) addresses = resolve(*target).take();
  Attempt attempt(*target, addresses.get(), 0);
  for (;;) {
    auto outcome = attempt.step();
    if (outcome != Attempt::Outcome::pending) return {outcome, attempt.reason()};
    pollfd item{attempt.descriptor(), attempt.events(), 0};
    ::poll(&item, 1, 1000);
  }
}

TEST(Attempt, TcpIsAnsweredByBytesAndNotByAConnection) {
  Server speaks("hello");
  EXPECT_EQ(ask("tcp:127.0.0.1:" + speaks.port()).first, Attempt::Outcome::answered);
  Server answers(">1234\n");
  EXPECT_EQ(ask("tcp:127.0.0.1:" + answers.port() + "=counter").first, Attempt::Outcome::answered);
  answers.join();
  EXPECT_EQ(answers.heard(), "counter\r\n");
  Server closes("");
  auto [outcome, reason] = ask("tcp:127.0.0.1:" + closes.port() + "=x");
  EXPECT_EQ(outcome, Attempt::Outcome::failed);
  EXPECT_EQ(reason, "connected, but closed without an answer");
}

TEST(Attempt, HttpIsAnsweredByTheRightStatus) {
  Server fine("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(ask("http://127.0.0.1:" + fine.port() + "/x?y").first, Attempt::Outcome::answered);
  fine.join();
  EXPECT_TRUE(fine.heard().starts_with("GET /x?y HTTP/1.0\r\nHost: 127.0.0.1\r\n")) << fine.heard();
  Server busy("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  EXPECT_EQ(ask("http://127.0.0.1:" + busy.port()),
            std::pair(Attempt::Outcome::failed, std::string("HTTP status 503")));
  Server wanted("HTTP/1.0 503 x\r\n");
  EXPECT_EQ(ask("http://127.0.0.1:" + wanted.port() + "/=503").first, Attempt::Outcome::answered);
  Server other("HTTP/1.0 200 x\r\n");
  EXPECT_EQ(ask("http://127.0.0.1:" + other.port() + "/=503").first, Attempt::Outcome::failed);
  for (const char* nonsense : {"HTTP/1.0 20\n", "Hello\n", "HTTP/1.0\n", "HTTP/1.0 2x0 \n"}) {
    Server bad(nonsense);
    EXPECT_EQ(ask("http://127.0.0.1:" + bad.port()), std::pair(Attempt::Outcome::failed, std::string("no HTTP answer")))
        << nonsense;
  }
}

TEST(Attempt, ACommandIsAnsweredByExitStatusZero) {
  EXPECT_EQ(ask("exec:exit 0").first, Attempt::Outcome::answered);
  EXPECT_EQ(ask("exec:exit 3"), std::pair(Attempt::Outcome::failed, std::string("exit status 3")));
  EXPECT_EQ(ask("exec:kill -9 $$"), std::pair(Attempt::Outcome::failed, std::string("killed")));
}

TEST(Attempt, ACommandThatHangsIsEndedWithItsChildren) {
  const ckpt::TempDir directory;
  const std::string path = directory / "child";
  auto target =
      parse_probe("exec:sleep 1000 & echo $! >" + path + ".new; mv " + path + ".new " + path + "; sleep 1000");
  auto begun = std::make_unique<Attempt>(*target, nullptr, 0);
  while (!std::filesystem::exists(path)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(begun->step(), Attempt::Outcome::pending);
  pid_t number = 0;
  std::ifstream(path) >> number;
  const ProcessId child = process_id(number);
  ASSERT_TRUE(alive(child));
  begun.reset();  // returns: it was killed, not waited for
  for (int i = 0; i < 3000 && alive(child); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(alive(child));
}

TEST(Attempt, ARefusedConnectionFails) {
  std::string port;
  {
    Server once("x");
    port = once.port();
    ask("tcp:127.0.0.1:" + port);
  }
  EXPECT_EQ(ask("tcp:127.0.0.1:" + port), std::pair(Attempt::Outcome::failed, std::string("Connection refused")));
}

}  // namespace
}  // namespace ckptd
