// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A machine of ckptd whose QEMU is the test itself.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <list>

#include "daemon/checkpoint_config.h"
#include "daemon/daemon.h"
#include "daemon/restored_base.h"
#include "os/unix_socket.h"
#include "stream/message_reader.h"
#include "stream_examples.h"
#include "temp_dir.h"

namespace ckptd {
namespace {

namespace examples = ckpt::examples;
namespace wire = ckpt::wire;
using ckpt::Bytes;
using wire::EpochKind;
using wire::WelcomeMode;

constexpr int patience_ms = 30'000;

class Qemu {
public:
  explicit Qemu(const std::string& socket) : fd_(os::connect_unix(socket).take()) {}

  wire::StreamWriter to{bytes_};
  void send() {
    Bytes bytes = std::exchange(bytes_, {});
    ASSERT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  // The next message; of type 0 when the connection has ended.
  std::pair<wire::Type, Bytes> receive() {
    while (messages_.empty()) {
      pollfd entry{fd_.get(), POLLIN, 0};
      Bytes buffer(65536);
      if (::poll(&entry, 1, patience_ms) != 1) {
        ADD_FAILURE() << "nothing has come";
        return {};
      }
      ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) return {};
      EXPECT_TRUE(reader_
                      .feed(ckpt::ByteView(buffer).first(static_cast<std::size_t>(got)),
                            [&](const wire::Header& header, ckpt::ByteView payload) -> ckpt::Status {
                              messages_.push_back({header.type, Bytes(payload.begin(), payload.end())});
                              return {};
                            })
                      .ok());
    }
    auto message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

  // HELLO; what the machine's newest checkpoint was last, as this QEMU knows it.
  wire::Welcome greet(std::uint64_t acked = 0, const std::string& base = "") {
    wire::Hello hello = examples::hello();
    hello.acked_epoch = acked;
    hello.base = base;
    if (!base.empty()) hello.instance[0] = 7;
    to.hello(hello);
    send();
    auto [type, payload] = receive();
    EXPECT_EQ(type, wire::Type::welcome);
    auto welcome = wire::decode_welcome(payload);
    EXPECT_TRUE(welcome.ok());
    if (!welcome.ok()) return {};
    next_ = welcome->next_epoch;
    to.epoch_begin(
        next_, examples::epoch_begin(welcome->mode == WelcomeMode::full ? EpochKind::full : EpochKind::incremental));
    send();
    return *welcome;
  }

  // Until the open epoch is to be closed; the next one opens.
  void close() {
    auto [type, payload] = receive();
    ASSERT_EQ(type, wire::Type::take);
    to.epoch_begin(++next_, examples::epoch_begin(EpochKind::incremental));
    send();
  }
  void end() { to.epoch_end(next_ - 1, examples::epoch_end(0, 0, 0)), send(); }
  // One more checkpoint; its number.
  std::uint64_t commit() {
    close();
    end();
    EXPECT_EQ(receive().first, wire::Type::durable);
    return next_ - 1;
  }
  void greet_and_commit() {
    greet();
    commit();
  }
  // Reads what comes until the connection ends.
  void drain() {
    while (receive().first != wire::Type{}) {
    }
  }

private:
  os::Fd fd_;
  Bytes bytes_;
  ckpt::MessageReader reader_;
  std::list<std::pair<wire::Type, Bytes>> messages_;
  std::uint64_t next_ = 0;
};

class MachineTest : public ::testing::Test {
protected:
  void SetUp() override {
    open();
    ASSERT_TRUE(daemon_->protect("m", Json(), {{"interval_ms", 50}}).ok());
  }
  void open() {
    Daemon::Options options;
    options.store_path = directory_ / "store";
    options.state_dir = directory_ / "state";
    options.run_dir.path = directory_ / "run";
    auto opened = Daemon::open(options);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    daemon_ = opened.take();
  }
  void TearDown() override { daemon_->stop_machines(); }
  void reopen() {
    daemon_->stop_machines();
    daemon_.reset();
    open();
  }
  std::string socket() const { return daemon_->run_dir().stream_socket("m"); }
  std::vector<std::uint64_t> numbers() const {
    std::vector<std::uint64_t> numbers;
    for (const auto& info : daemon_->store().checkpoints("m").take()) numbers.push_back(info.id.number);
    return numbers;
  }

  Json config_of(std::uint64_t number) {
    auto reader = daemon_->store().open_checkpoint({"m", number});
    return reader.ok() ? read_config(**reader).take() : Json();
  }

  const ckpt::TempDir directory_;
  std::unique_ptr<Daemon> daemon_;
};

// The end of an epoch comes in the same moment as the news: it must not pass for the copy that was asked for.
TEST_F(MachineTest, ARestoredMachinesCheckpointsHaveItsConfigurationFromTheFirstOn) {
  const Json first = {{"argv", {"first"}}}, second = {{"argv", {"second"}}};
  ASSERT_TRUE(daemon_->protect("m", first, Json()).ok());
  Qemu(socket()).greet_and_commit();
  ASSERT_TRUE(daemon_->protect("m", second, Json()).ok());
  auto source = daemon_->store().checkpoint({"m", numbers().front()}).take();
  ASSERT_EQ(config_of(source.id.number), first);
  ASSERT_TRUE(make_directories(daemon_->run_dir().restore("m")).ok());
  Qemu restored(socket());
  ASSERT_EQ(restored.greet(0, grant_base(daemon_->run_dir(), "m", source).take()).mode, WelcomeMode::continue_);
  EXPECT_EQ(config_of(restored.commit()), first);
  // As when the guest is to run: what is connected has it.
  ASSERT_TRUE(daemon_->protect("m", first, Json()).ok());
  EXPECT_EQ(config_of(restored.commit()), first);
}

// It may be a clone: the checkpoint it comes from is of another domain.
TEST_F(MachineTest, ARestoredDomainsCheckpointsAreOfTheDomainThatItIsNow) {
  const Json first = {{"domain", {{"uuid", "first"}}}}, second = {{"domain", {{"uuid", "second"}}}};
  ASSERT_TRUE(daemon_->protect("m", first, Json()).ok());
  Qemu(socket()).greet_and_commit();
  ASSERT_TRUE(daemon_->protect("m", second, Json()).ok());
  auto source = daemon_->store().checkpoint({"m", numbers().front()}).take();
  ASSERT_EQ(config_of(source.id.number), first);
  ASSERT_TRUE(make_directories(daemon_->run_dir().restore("m")).ok());
  Qemu restored(socket());
  ASSERT_EQ(restored.greet(0, grant_base(daemon_->run_dir(), "m", source).take()).mode, WelcomeMode::continue_);
  EXPECT_EQ(config_of(restored.commit()), second);
}

TEST_F(MachineTest, ANewConfigurationIsInEveryCheckpointThatBeginsAfterwards) {
  const Json first = {{"argv", {"first"}}}, second = {{"argv", {"second"}}};
  ASSERT_TRUE(daemon_->protect("m", first, Json()).ok());
  std::uint64_t newest = 0;
  {
    Qemu qemu(socket());
    qemu.greet();
    newest = qemu.commit();
    ASSERT_TRUE(daemon_->protect("m", second, Json()).ok());
    qemu.drain();
  }
  ASSERT_EQ(config_of(newest), first);
  Qemu again(socket());
  EXPECT_EQ(again.greet(newest).mode, WelcomeMode::continue_);
  EXPECT_EQ(config_of(again.commit()), second);
}

TEST_F(MachineTest, DamageIsFollowedByAFullCopyWhateverComesMeanwhile) {
  std::uint64_t newest = 0;
  for (int round = 0; round < 30; ++round) {
    Qemu qemu(socket());
    ASSERT_EQ(qemu.greet(newest).mode, WelcomeMode::full) << "round " << round;
    qemu.commit();
    qemu.close();
    qemu.end();
    daemon_->start_anew("m");
    qemu.drain();
    newest = numbers().back();
  }
}

TEST_F(MachineTest, WhoConnectsBeforeDamageIsFoundAndGreetsAfterwardsCopiesEverything) {
  Qemu first(socket());
  first.greet();
  std::uint64_t newest = first.commit();
  auto second = std::make_unique<Qemu>(socket());
  {
    // Its answer shows that the one before it has been let in.
    Qemu third(socket());
    third.to.hello(examples::hello());
    third.send();
    while (third.receive().first != wire::Type::refuse) ASSERT_FALSE(HasFailure());
  }
  daemon_->start_anew("m");
  first.drain();
  EXPECT_EQ(second->greet(newest).mode, WelcomeMode::full);
  newest = second->commit();
  second.reset();
  EXPECT_EQ(Qemu(socket()).greet(newest).mode, WelcomeMode::continue_);
}

TEST_F(MachineTest, ACopyAnewIsNotForgottenWithCkptdOrProtection) {
  std::uint64_t newest = 0;
  auto greeted = [&] { return Qemu(socket()).greet(newest).mode; };
  {
    Qemu qemu(socket());
    qemu.greet();
    newest = qemu.commit();
    daemon_->start_anew("m");
    qemu.drain();
  }
  EXPECT_EQ(greeted(), WelcomeMode::full);
  reopen();
  EXPECT_EQ(greeted(), WelcomeMode::full) << "ckptd was started again";
  ASSERT_TRUE(daemon_->unprotect("m").ok());
  ASSERT_TRUE(daemon_->protect("m", Json(), Json()).ok());
  EXPECT_EQ(greeted(), WelcomeMode::full) << "protected again";
  {
    Qemu qemu(socket());
    ASSERT_EQ(qemu.greet(newest).mode, WelcomeMode::full);
    newest = qemu.commit();
  }
  EXPECT_EQ(greeted(), WelcomeMode::continue_) << "copied anew";
  ASSERT_TRUE(daemon_->unprotect("m").ok());
  daemon_->start_anew("m");
  reopen();
  ASSERT_TRUE(daemon_->protect("m", Json(), Json()).ok());
  EXPECT_EQ(greeted(), WelcomeMode::full) << "found while it was not protected";
}

}  // namespace
}  // namespace ckptd
