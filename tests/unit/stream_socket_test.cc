// SPDX-License-Identifier: LGPL-2.1-or-later
//
// stream_gen's socket end against a receiver behind a real socket: load tests rest on it, so must the tool.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <thread>

#include "socket_session.h"
#include "stream_fixture.h"

namespace ckpt {
namespace {

using tools::Misbehaviour;
using tools::SocketEnd;

class StreamSocketTest : public StreamTest {
protected:
  StreamSocketTest() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 4), 0);
  }
  ~StreamSocketTest() override { ::close(listener_); }

  // Serves one connection to its end; with `drop_after`, ends it itself after so many bytes.
  void serve(std::size_t drop_after = SIZE_MAX) {
    int fd = ::accept(listener_, nullptr, nullptr);
    auto receiver = StreamReceiver::create(*store_, options(), {});
    std::vector<std::uint8_t> buffer(64 << 10);
    for (std::size_t seen = 0; seen < drop_after;) {
      ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
      if (count <= 0) break;
      seen += static_cast<std::size_t>(count);
      bool ok = receiver->feed(ByteView(buffer).first(static_cast<std::size_t>(count))).ok();
      if (ok) receiver->take();
      ::send(fd, receiver->output().data(), receiver->output().size(), MSG_NOSIGNAL);
      receiver->output().clear();
      if (!ok) break;
    }
    ::close(fd);
  }

  SocketEnd play(tools::SocketOptions how, tools::MachineModel& model, std::string& why) {
    how.path = path_;
    std::uint64_t durable = 0;
    tools::StreamClient client(model, {50, 10, {5}, {}, ""},
                               {nullptr, [&](std::uint64_t epoch, const auto& digest) { digests_[epoch] = digest; },
                                [&](std::uint64_t) { ++durable; }});
    return run_socket_session(client, how, durable, why);
  }

  static tools::MachineOptions small() {
    tools::MachineOptions machine;
    machine.ram_bytes = 2 << 20;
    machine.disk_bytes = 1 << 20;
    return machine;
  }

  std::string path_ = directory_ / "socket";
  int listener_ = -1;
  std::map<std::uint64_t, tools::MachineDigest> digests_;
};

TEST_F(StreamSocketTest, AMachineIsKeptOverASocketThatBreaks) {
  std::thread server([this] {
    serve(5'000'000);
    serve();
  });
  tools::MachineModel model(small());
  std::string why;
  tools::SocketOptions how;
  how.epochs = 30;
  how.reconnects = 3;
  EXPECT_EQ(play(how, model, why), SocketEnd::done) << why;
  server.join();
  EXPECT_GE(numbers().size(), 30u);
  for (std::uint64_t number : numbers()) {
    auto reader = store_->open_checkpoint({"m", number});
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(tools::digest_of(**reader)->text(), digests_[number].text()) << number;
  }
}

TEST_F(StreamSocketTest, EachMisbehaviourEndsAsItShould) {
  const std::pair<Misbehaviour, const char*> cases[] = {
      {Misbehaviour::replay, "was due, and 0 came"}, {Misbehaviour::foreign_epoch, "is not under way"},
      {Misbehaviour::oversize, "announces"},         {Misbehaviour::garbage, "does not begin with CKPS"},
      {Misbehaviour::version, "version 2"},
  };
  for (auto [misbehaviour, words] : cases) {
    SCOPED_TRACE(words);
    std::thread server([this] { serve(); });
    tools::MachineModel model(small());
    std::string why;
    tools::SocketOptions how;
    how.misbehaviour = misbehaviour;
    EXPECT_EQ(play(how, model, why), SocketEnd::refused);
    EXPECT_NE(why.find(words), std::string::npos) << why;
    server.join();
  }
  std::thread server([this] { serve(); });
  tools::MachineModel model(small());
  std::string why;
  tools::SocketOptions how;
  how.misbehaviour = Misbehaviour::truncate;
  EXPECT_EQ(play(how, model, why), SocketEnd::lost);
  server.join();
}

}  // namespace
}  // namespace ckpt
