// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A machine of ckptd whose QEMU is the test itself.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <list>
#include <thread>

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
    wait_for_take();
    open_next();
  }
  void wait_for_take() { ASSERT_EQ(receive().first, wire::Type::take); }
  void open_next() {
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

// A guest that somebody holds frozen, as a helper does.
struct Held {
  std::atomic<bool> holds{true};
  std::atomic<int> thawed{0};

  Machine::Frozen frozen(std::int64_t limit_ms = patience_ms) {
    return {.holds = [this] { return holds.load(); }, .over = [this] { ++thawed; }, .limit_ms = limit_ms};
  }
};

// Its epochs close when they are asked for only.
class FrozenMachineTest : public MachineTest {
protected:
  void SetUp() override {
    MachineTest::SetUp();
    ASSERT_TRUE(daemon_->set_policy("m", {{"interval_ms", 3'600'000}}).ok());
    qemu_.emplace(socket());
    qemu_->greet_and_commit();
  }
  void TearDown() override {
    qemu_.reset();
    MachineTest::TearDown();
  }
  std::future<ckpt::Result<ckpt::CheckpointInfo>> take(const Machine::Frozen* frozen) {
    return std::async(std::launch::async, [this, frozen] {
      return daemon_->machine("m")->take_now(
          patience_ms, [] { return false; }, frozen);
    });
  }
  ckpt::CheckpointInfo newest() { return daemon_->store().checkpoint({"m", numbers().back()}).take(); }
  void end() {
    qemu_->end();
    EXPECT_EQ(qemu_->receive().first, wire::Type::durable);
  }

  std::optional<Qemu> qemu_;
  Held held_;
  const FrozenNote note_{.domain = "3a4b6c1e-0000-4000-8000-000000000001", .reason = "for a test", .since_ns = 1};
};

TEST_F(FrozenMachineTest, AFrozenGuestIsThawedWhenItsInstantIsPast) {
  ASSERT_TRUE(daemon_->frozen().hold("m", note_).ok());
  auto frozen = held_.frozen();
  auto taken = take(&frozen);
  qemu_->wait_for_take();
  EXPECT_EQ(held_.thawed, 0);
  qemu_->open_next();
  for (int i = 0; i < patience_ms && held_.thawed == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(held_.thawed, 1) << "not before it is durable";
  daemon_->frozen().thawed("m", note_.since_ns);
  end();
  auto info = taken.get();
  ASSERT_TRUE(info.ok()) << info.error().message();
  EXPECT_TRUE(info->application_consistent && info->frozen);
  EXPECT_EQ(held_.thawed, 1);
  auto next = take(nullptr);
  qemu_->commit();
  EXPECT_TRUE(next.get().ok());
  EXPECT_FALSE(newest().application_consistent || newest().frozen);
}

TEST_F(FrozenMachineTest, APointIsNotCalledConsistentOnceItsGuestIsThawed) {
  auto frozen = held_.frozen();
  auto taken = take(&frozen);
  qemu_->wait_for_take();
  held_.holds = false;
  qemu_->open_next();
  end();
  auto info = taken.get();
  ASSERT_FALSE(info.ok());
  EXPECT_EQ(info.error().code, ckpt::Code::unavailable);
  EXPECT_EQ(held_.thawed, 1);
  EXPECT_FALSE(newest().application_consistent);

  held_.holds = true;
  auto short_frozen = held_.frozen(50);
  taken = take(&short_frozen);
  EXPECT_FALSE(taken.get().ok()) << "given up";
  EXPECT_EQ(held_.thawed, 2);
  qemu_->commit();
  EXPECT_FALSE(newest().application_consistent);
}

TEST_F(FrozenMachineTest, AFrozenGuestIsThawedWhenItsConnectionEnds) {
  auto frozen = held_.frozen();
  auto taken = take(&frozen);
  qemu_->wait_for_take();
  qemu_.reset();
  EXPECT_FALSE(taken.get().ok());
  EXPECT_EQ(held_.thawed, 1);
  EXPECT_FALSE(take(&frozen).get().ok()) << "not connected";
  EXPECT_EQ(held_.thawed, 2);
}

// Whether it was at the pause itself nobody knows: it was for a part of the time from TAKE to EPOCH_BEGIN.
TEST_F(FrozenMachineTest, WhatClosesWhileTheGuestMayBeFrozenSaysSo) {
  for (bool before : {true, false}) {
    if (before) {
      ASSERT_TRUE(daemon_->frozen().hold("m", note_).ok());
    }
    auto taken = take(nullptr);
    qemu_->wait_for_take();
    if (!before) {
      ASSERT_TRUE(daemon_->frozen().hold("m", note_).ok());
    }
    daemon_->frozen().thawed("m", note_.since_ns);
    qemu_->open_next();
    end();
    EXPECT_TRUE(taken.get().ok());
    EXPECT_TRUE(newest().frozen) << before;
    EXPECT_FALSE(newest().application_consistent);
  }
}

TEST_F(FrozenMachineTest, ThatAGuestMayBeFrozenOutlivesCkptd) {
  ASSERT_TRUE(daemon_->frozen().hold("m", note_).ok());
  EXPECT_EQ(daemon_->frozen().hold("m", note_).error().code, ckpt::Code::busy);
  qemu_.reset();
  reopen();
  auto found = daemon_->frozen().find("m");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->note.domain, note_.domain);
  EXPECT_FALSE(found->held);
  EXPECT_EQ(daemon_->frozen().changes("m") % 2, 1u);
  daemon_->frozen().thawed("m", note_.since_ns + 1);
  EXPECT_TRUE(daemon_->frozen().find("m")) << "of another guest";
  daemon_->frozen().thawed("m", note_.since_ns);
  reopen();
  EXPECT_FALSE(daemon_->frozen().find("m"));
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
