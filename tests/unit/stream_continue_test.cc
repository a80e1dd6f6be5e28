// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a client is told when it comes again, and that nothing is lost or mixed up by it.
#include "local_session.h"
#include "stream_fixture.h"

namespace ckpt {
namespace {

using examples::pattern;
using examples::ram_number;
using wire::EpochKind;
using wire::WelcomeMode;

class StreamContinueTest : public StreamTest {
protected:
  // Epochs 1 to `count` of the instance in examples::hello(), page 0 filled by their number.
  void make_checkpoints(std::uint64_t count, const std::string& machine = "m") {
    RawConnection connection(*store_, options(machine));
    connection.open();
    for (std::uint64_t i = 0; i < count; ++i) {
      connection.to.data(connection.open_number(), {ram_number, 0, pattern(4096, static_cast<std::uint8_t>(i + 1))});
      connection.close();
      ASSERT_TRUE(connection.end(1, 0, 4096).ok());
      connection.answers();
    }
  }

  // Whoever began the restore knows what "m@N" stands for.
  static StreamReceiver::Events knowing() {
    StreamReceiver::Events events;
    events.terms = [](const StreamHello& hello) -> StreamReceiver::Terms {
      if (!hello.base.starts_with("m@")) return {};
      return {.base = {"m", std::stoull(hello.base.substr(2))}};
    };
    return events;
  }

  wire::Welcome greet(const wire::Hello& hello, const std::string& machine = "m") {
    RawConnection connection(*store_, options(machine), knowing());
    connection.to.hello(hello);
    EXPECT_TRUE(connection.send().ok());
    return connection.welcome();
  }

  static wire::Hello hello(std::uint64_t acked, std::uint64_t closed, const std::string& base = "",
                           std::uint8_t instance = 0xA0) {
    wire::Hello hello = examples::hello();
    hello.instance[0] = instance;
    hello.acked_epoch = acked;
    hello.closed_epoch = closed;
    hello.base = base;
    return hello;
  }
};

TEST_F(StreamContinueTest, WhatCannotBeReadIsNotContinued) {
  make_checkpoints(2);
  StreamReceiver::Events events;
  events.terms = [](const StreamHello&) { return StreamReceiver::Terms{.start_anew = true}; };
  RawConnection connection(*store_, options(), std::move(events));
  connection.to.hello(hello(2, 0));
  ASSERT_TRUE(connection.send().ok());
  EXPECT_EQ(connection.welcome().mode, WelcomeMode::full);
}

TEST_F(StreamContinueTest, TheDecisionIsTheDocuments) {
  make_checkpoints(3);
  struct Case {
    const char* name;
    wire::Hello hello;
    WelcomeMode mode;
    std::uint64_t last_durable;
    std::uint64_t next;
  };
  const Case cases[] = {
      {"all acknowledged", hello(3, 0), WelcomeMode::continue_, 3, 4},
      {"the acknowledgement was lost", hello(2, 3), WelcomeMode::continue_, 3, 4},
      {"closed and never durable", hello(3, 4), WelcomeMode::continue_, 3, 5},
      {"the client knows more than the store", hello(4, 5), WelcomeMode::full, 3, 6},
      {"the client knows less than the store", hello(1, 2), WelcomeMode::full, 3, 4},
      {"it says it never closed one", hello(0, 0), WelcomeMode::full, 3, 4},
      {"another instance", hello(3, 0, "", 1), WelcomeMode::full, 0, 4},
      {"another instance, restored", hello(0, 0, "m@2", 1), WelcomeMode::continue_, 2, 4},
      {"restored, first epoch lost", hello(0, 4, "m@2", 1), WelcomeMode::continue_, 2, 5},
      {"restored, closed has the base's number", hello(0, 2, "m@2", 1), WelcomeMode::full, 2, 4},
      {"restored, then acknowledged elsewhere", hello(9, 0, "m@2", 1), WelcomeMode::full, 2, 10},
      {"restored from what is gone", hello(0, 0, "m@7", 1), WelcomeMode::full, 0, 8},
      {"restored, says the machine alone", hello(0, 0, "x@2", 1), WelcomeMode::full, 0, 4},
      {"the same with words that mean nothing", hello(0, 0, "@", 1), WelcomeMode::full, 0, 4},
      {"the base counts only until the first epoch", hello(0, 0, "m@2"), WelcomeMode::full, 3, 4},
  };
  for (const Case& test : cases) {
    wire::Welcome welcome = greet(test.hello);
    EXPECT_EQ(welcome.mode, test.mode) << test.name;
    EXPECT_EQ(welcome.last_durable, test.last_durable) << test.name;
    EXPECT_EQ(welcome.next_epoch, test.next) << test.name;
  }
}

TEST_F(StreamContinueTest, ARemovedCheckpointIsNoGround) {
  make_checkpoints(3);
  std::uint64_t number = 3;
  ASSERT_TRUE(store_->remove("m", {&number, 1}).ok());
  wire::Welcome welcome = greet(hello(3, 0));
  EXPECT_EQ(welcome.mode, WelcomeMode::full);
  EXPECT_EQ(welcome.next_epoch, 4u) << "3 has been used";
}

TEST_F(StreamContinueTest, NumbersOfABaseElsewhereAreNotUsedAgain) {
  make_checkpoints(2);
  ASSERT_TRUE(store_->add_machine("clone", {}).ok());
  wire::Welcome welcome = greet(hello(0, 0, "m@2", 1), "clone");
  EXPECT_EQ(welcome.mode, WelcomeMode::continue_);
  EXPECT_EQ(welcome.last_durable, 2u);
  EXPECT_EQ(welcome.next_epoch, 3u) << "else a closed epoch 2 could be taken for durable";
}

TEST_F(StreamContinueTest, NumbersThatAreUsedUpAreSaid) {
  RawConnection connection(*store_, options());
  connection.to.hello(hello(wire::epoch_limit - 1, 0));
  EXPECT_EQ(connection.send().error().code, Code::limit);
  EXPECT_NE(connection.refusal().find("forget the machine"), std::string::npos);
}

TEST_F(StreamContinueTest, AnIncrementalEpochBuildsOnWhatWasSafe) {
  make_checkpoints(3);
  {
    // An epoch that is closed and lost leaves no trace in what follows.
    RawConnection lost(*store_, options());
    lost.open(EpochKind::incremental, hello(3, 0));
    lost.to.data(4, {ram_number, 0, pattern(4096, 99)});
    lost.to.data(4, {ram_number, 4096, pattern(4096, 98)});
    lost.close();
  }
  RawConnection connection(*store_, options());
  connection.open(EpochKind::incremental, hello(3, 4));
  EXPECT_EQ(connection.open_number(), 5u);
  connection.to.data(5, {ram_number, 8192, pattern(4096, 50)});
  connection.close();
  ASSERT_TRUE(connection.end(1, 0, 4096).ok());
  EXPECT_EQ(numbers(), (std::vector<std::uint64_t>{1, 2, 3, 5}));
  Bytes ram = content(5, "pc.ram");
  EXPECT_EQ(part(ram, 0, 4096), pattern(4096, 3));
  EXPECT_EQ(part(ram, 4096, 4096), Bytes(4096));
  EXPECT_EQ(part(ram, 8192, 4096), pattern(4096, 50));
  EXPECT_EQ(store_->checkpoint({"m", 5})->parent, (CheckpointId{"m", 3}));
}

TEST_F(StreamContinueTest, ARestoredMachineContinuesFromItsBase) {
  make_checkpoints(3);
  RawConnection connection(*store_, options(), knowing());
  connection.open(EpochKind::incremental, hello(0, 0, "m@2", 1));
  connection.close();
  ASSERT_TRUE(connection.end(0, 0, 0).ok());
  EXPECT_EQ(part(content(4, "pc.ram"), 0, 4096), pattern(4096, 2)) << "as it was in 2, not in 3";
  EXPECT_EQ(store_->checkpoint({"m", 4})->parent, (CheckpointId{"m", 2}));
}

TEST_F(StreamContinueTest, AClaimedBaseThatNobodyVouchesForMeansAFullCopy) {
  make_checkpoints(3);
  RawConnection connection(*store_, options());
  connection.to.hello(hello(0, 0, "m@2", 1));
  ASSERT_TRUE(connection.send().ok());
  EXPECT_EQ(connection.welcome().mode, WelcomeMode::full);
}

TEST_F(StreamContinueTest, AFullEpochForgetsWhatWasBefore) {
  make_checkpoints(1);
  RawConnection connection(*store_, options());
  connection.open(EpochKind::full, hello(1, 0));
  connection.close();
  ASSERT_TRUE(connection.end(0, 0, 0).ok());
  EXPECT_EQ(content(2, "pc.ram"), Bytes(examples::ram_bytes));
}

// A model machine whose connection ends at every kind of moment, and whose every checkpoint must be exact.
TEST_F(StreamContinueTest, AMachineThatIsCutOffAgainAndAgainLosesNothing) {
  tools::MachineOptions machine;
  machine.ram_bytes = 1 << 20;
  machine.disk_bytes = 1 << 19;
  machine.device_bytes = 9000;
  tools::MachineModel model(machine);
  std::map<std::uint64_t, tools::MachineDigest> digests;
  std::uint64_t continued = 0;
  tools::StreamClient client(
      model, {40, 20, {7}, {}, ""},
      {[&](const wire::Welcome& welcome) { continued += welcome.mode == WelcomeMode::continue_; },
       [&](std::uint64_t epoch, const auto& digest) { digests[epoch] = digest; }, nullptr});
  tools::Random random(4711);
  for (int round = 0; round < 60; ++round) {
    auto receiver = StreamReceiver::create(*store_, options(), {});
    client.connect();
    ASSERT_TRUE(tools::LocalSession(client, *receiver).take(random.below(3)).ok());
    ASSERT_TRUE(tools::LocalSession(client, *receiver).settle().ok());
    ASSERT_TRUE(receiver->take());
    ASSERT_TRUE(client.feed(std::exchange(receiver->output(), {})).ok());
    client.pump(64 << 20);
    // Of the closing epoch a part arrives, sometimes all of it; the answer never does.
    Bytes up = std::exchange(client.output(), {});
    std::size_t arrived = random.below(3) == 0 ? up.size() : random.below(up.size());
    ASSERT_TRUE(receiver->feed(ByteView(up).first(arrived)).ok());
  }
  EXPECT_GT(continued, 50u) << "a full copy is the exception";
  std::vector<std::uint64_t> kept = numbers();
  EXPECT_GT(kept.size(), 20u);
  for (std::uint64_t number : kept) {
    auto reader = store_->open_checkpoint({"m", number});
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(tools::digest_of(**reader)->text(), digests[number].text()) << number;
  }
}

}  // namespace
}  // namespace ckpt
