// SPDX-License-Identifier: LGPL-2.1-or-later
#include <functional>

#include "local_session.h"
#include "stream_fixture.h"

namespace ckpt {
namespace {

using examples::device_number;
using examples::disk_number;
using examples::pattern;
using examples::ram_number;
using wire::EpochKind;

Bytes joined(const std::vector<Bytes>& messages) {
  Bytes all;
  for (const Bytes& message : messages) all.insert(all.end(), message.begin(), message.end());
  return all;
}

// What the short stream's two epochs must have become.
class ShortStreamTest : public StreamTest {
protected:
  void expect_checkpoints(const std::string& machine = "m") {
    ASSERT_EQ(numbers(machine), (std::vector<std::uint64_t>{1, 2}));
    Bytes first = content(1, "pc.ram", machine), second = content(2, "pc.ram", machine);
    EXPECT_EQ(part(first, 4096, 4096), pattern(4096, 1));
    EXPECT_EQ(part(first, 0, 4096), Bytes(4096)) << "the next epoch's page is not in this one";
    EXPECT_EQ(part(second, 0, 8192), pattern(8192, 4));
    EXPECT_EQ(content(1, "pc.rom", machine), pattern(4096, 1));
    EXPECT_EQ(content(2, "pc.rom", machine), pattern(4096, 1)) << "kept from the epoch before";
    Bytes disk = content(2, "disk0", machine);
    EXPECT_EQ(part(disk, 0, 1024), Bytes(1024));
    EXPECT_EQ(part(disk, 1024, 512), pattern(512, 2));
    EXPECT_EQ(part(content(1, "disk0", machine), 512, 512), pattern(512, 2));
    for (std::uint64_t number : {1, 2}) {
      EXPECT_EQ(content(number, "device-state", machine), pattern(1000, 3));
      EXPECT_EQ(content(number, "machine", machine), Bytes(config, config + sizeof config - 1));
    }
  }
};

TEST_F(ShortStreamTest, BecomesTwoCheckpoints) {
  std::vector<std::uint64_t> committed;
  StreamReceiver::Events events;
  events.committed = [&](const CheckpointInfo& info, const EpochFigures& figures) {
    EXPECT_EQ(info.id.number, figures.number);
    EXPECT_EQ(figures.pause_us, 4200u);
    EXPECT_EQ(figures.wall_clock_ns, 1'700'000'000'123'456'789u);
    committed.push_back(figures.number);
  };
  auto receiver = StreamReceiver::create(*store_, options(), events);
  for (const Bytes& message : examples::short_stream()) {
    Status status = receiver->feed(message);
    ASSERT_TRUE(status.ok()) << status.error().message();
    receiver->take();
  }
  EXPECT_EQ(committed, (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(receiver->open_epoch(), 3u);
  receiver.reset();
  expect_checkpoints();
  EXPECT_EQ(store_->checkpoint({"m", 2})->instance, examples::hello().instance);
}

TEST_F(ShortStreamTest, ByteByByteIsTheSame) {
  auto receiver = StreamReceiver::create(*store_, options(), {});
  for (std::uint8_t byte : joined(examples::short_stream())) {
    ASSERT_TRUE(receiver->feed({&byte, 1}).ok());
    receiver->take();
  }
  EXPECT_EQ(receiver->missing_bytes(), 0u);
  receiver.reset();
  expect_checkpoints();
}

TEST_F(ShortStreamTest, CutAtAnyByteLeavesWhatWasDurable) {
  std::vector<Bytes> messages = examples::short_stream();
  Bytes all = joined(messages);
  std::size_t first_end = 0;
  for (std::size_t i = 0; i < 12; ++i) first_end += messages[i].size();
  ASSERT_EQ(load_le<std::uint16_t>(all.data() + first_end - 104 + 4), 5) << "EPOCH_END of the first epoch";

  // One receiver a cut: what is left in the store by any of them would stop the next from opening epoch 1.
  for (std::size_t cut = 0; cut < first_end; ++cut) {
    auto receiver = StreamReceiver::create(*store_, options(), {});
    std::size_t at = 0;
    for (const Bytes& message : messages) {
      if (at >= cut) break;
      ASSERT_TRUE(receiver->feed(ByteView(message).first(std::min(message.size(), cut - at))).ok()) << cut;
      receiver->take();
      at += message.size();
    }
  }
  EXPECT_TRUE(numbers().empty());
  for (std::size_t cut : {first_end, first_end + 1, all.size() - 1, all.size()}) {
    std::string machine = "cut-" + std::to_string(cut);
    ASSERT_TRUE(store_->add_machine(machine, {}).ok());
    auto receiver = StreamReceiver::create(*store_, options(machine), {});
    for (std::size_t at = 0; at < cut; ++at) {
      ASSERT_TRUE(receiver->feed(ByteView(all).subspan(at, 1)).ok());
      receiver->take();
    }
    EXPECT_EQ(numbers(machine).size(), cut == all.size() ? 2u : 1u) << cut;
  }
  expect_checkpoints("cut-" + std::to_string(all.size()));
}

TEST_F(ShortStreamTest, AnyMessageRepeatedOrSwappedEndsTheConnection) {
  std::vector<Bytes> messages = examples::short_stream();
  for (std::size_t victim = 0; victim + 1 < messages.size(); ++victim)
    for (bool repeat : {true, false}) {
      std::vector<Bytes> bad = messages;
      if (repeat)
        bad.insert(bad.begin() + static_cast<std::ptrdiff_t>(victim), messages[victim]);
      else
        std::swap(bad[victim], bad[victim + 1]);
      std::string machine = (repeat ? "repeat-" : "swap-") + std::to_string(victim);
      ASSERT_TRUE(store_->add_machine(machine, {}).ok());
      auto receiver = StreamReceiver::create(*store_, options(machine), {});
      Status status;
      for (const Bytes& message : bad) {
        status = receiver->feed(message);
        if (!status.ok()) break;
        receiver->take();
      }
      ASSERT_FALSE(status.ok()) << machine;
      EXPECT_EQ(status.error().code, Code::protocol);
      EXPECT_EQ(receiver->open_epoch(), 0u) << "nothing uncommitted is kept";
      bool first_ended = victim >= 12 || (repeat && victim == 11);
      EXPECT_EQ(numbers(machine).size(), first_ended ? 1u : 0u) << machine;
    }
}

class ReceiverTest : public StreamTest {
protected:
  RawConnection connection_{*store_, options()};
};

TEST_F(ReceiverTest, AFullEpochIsAskedOfANewMachine) {
  connection_.to.hello(examples::hello());
  ASSERT_TRUE(connection_.send().ok());
  wire::Welcome welcome = connection_.welcome();
  EXPECT_EQ(welcome.mode, wire::WelcomeMode::full);
  EXPECT_EQ(welcome.next_epoch, 1u);
  EXPECT_EQ(welcome.last_durable, 0u);
  EXPECT_EQ(welcome.interval_ms, 1000u);
}

TEST_F(ReceiverTest, TakesOneCheckpointAtATime) {
  EXPECT_FALSE(connection_.receiver().take()) << "before HELLO";
  connection_.to.hello(examples::hello());
  ASSERT_TRUE(connection_.send().ok());
  EXPECT_FALSE(connection_.receiver().take()) << "no epoch is open";
  connection_.to.epoch_begin(1, examples::epoch_begin(EpochKind::full));
  connection_.to.state(1, {CaptureState::suspended, 0, "a block job"});
  ASSERT_TRUE(connection_.send().ok());
  EXPECT_FALSE(connection_.receiver().take()) << "suspended";
  connection_.to.state(1, {CaptureState::capturing, 0, ""});
  ASSERT_TRUE(connection_.send().ok());
  EXPECT_TRUE(connection_.receiver().take());
  EXPECT_FALSE(connection_.receiver().take()) << "one is under way";
  auto answers = connection_.answers();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].header.type, wire::Type::take);
  EXPECT_EQ(answers[1].header.epoch, 1u);
  connection_.to.epoch_begin(2, examples::epoch_begin(EpochKind::incremental));
  ASSERT_TRUE(connection_.send().ok());
  EXPECT_FALSE(connection_.receiver().take()) << "closed and not durable";
  connection_.to.epoch_end(1, examples::epoch_end(0, 0, 0));
  ASSERT_TRUE(connection_.send().ok());
  EXPECT_EQ(connection_.answer().header.type, wire::Type::durable);
  EXPECT_TRUE(connection_.receiver().take());
}

TEST_F(ReceiverTest, TheLastWriteOfAnEpochWinsAndEpochsDoNotMix) {
  connection_.open();
  connection_.to.data(1, {ram_number, 0, pattern(4096, 1)});
  connection_.to.data(1, {ram_number, 0, pattern(4096, 2)});
  connection_.to.data(1, {ram_number, 4096, pattern(4096, 3)});
  connection_.to.zero(1, {ram_number, 4096, 4096});
  connection_.to.zero(1, {ram_number, 8192, 4096});
  connection_.to.data(1, {ram_number, 8192, pattern(4096, 4)});
  connection_.close();
  connection_.to.data(2, {ram_number, 0, pattern(4096, 5)});
  connection_.to.data(1, {ram_number, 12288, pattern(4096, 6)});
  connection_.to.zero(2, {ram_number, 8192, 4096});
  connection_.to.data(1, {ram_number, 16384, pattern(4096, 7)});
  connection_.to.data(2, {ram_number, 12288, pattern(4096, 8)});
  ASSERT_TRUE(connection_.end(6, 2, 6 * 4096).ok());
  ASSERT_EQ(connection_.answer().header.type, wire::Type::durable);
  connection_.close();
  ASSERT_TRUE(connection_.end(2, 1, 2 * 4096).ok());
  Bytes first = content(1, "pc.ram"), second = content(2, "pc.ram");
  auto page = [](const Bytes& bytes, std::size_t number) { return part(bytes, number * 4096, 4096); };
  EXPECT_EQ(page(first, 0), pattern(4096, 2));
  EXPECT_EQ(page(first, 1), Bytes(4096));
  EXPECT_EQ(page(first, 2), pattern(4096, 4));
  EXPECT_EQ(page(first, 3), pattern(4096, 6));
  EXPECT_EQ(page(second, 0), pattern(4096, 5));
  EXPECT_EQ(page(second, 2), Bytes(4096));
  EXPECT_EQ(page(second, 3), pattern(4096, 8));
  EXPECT_EQ(page(second, 4), pattern(4096, 7)) << "sent late in the closed epoch, kept by the next";
}

TEST_F(ReceiverTest, SectorsAreCompletedFromTheEpochBefore) {
  connection_.open();
  connection_.to.data(1, {disk_number, 0, pattern(4096, 1)});
  connection_.to.data(1, {disk_number, examples::disk_bytes - 512, pattern(512, 2)});
  connection_.close();
  // The open epoch writes a sector before the closed one has ended.
  connection_.to.data(2, {disk_number, 1024, pattern(512, 3)});
  connection_.to.zero(2, {disk_number, 2048, 512});
  ASSERT_TRUE(connection_.end(2, 0, 4096 + 512).ok());
  connection_.answers();
  connection_.close();
  ASSERT_TRUE(connection_.end(1, 1, 512).ok());
  Bytes expected = pattern(4096, 1);
  EXPECT_EQ(part(content(1, "disk0"), 0, 4096), expected);
  Bytes sector = pattern(512, 3);
  std::copy(sector.begin(), sector.end(), expected.begin() + 1024);
  std::fill_n(expected.begin() + 2048, 512, std::uint8_t{0});
  Bytes disk = content(2, "disk0");
  EXPECT_EQ(part(disk, 0, 4096), expected);
  EXPECT_EQ(part(disk, examples::disk_bytes - 512, 512), pattern(512, 2));
}

TEST_F(ReceiverTest, ObjectsComeGoAndChangeTheirSize) {
  connection_.open();
  connection_.to.data(1, {disk_number, 0, pattern(8192, 1)});
  connection_.to.data(1, {examples::rom_number, 0, pattern(4096, 2)});
  wire::EpochBegin begin = examples::epoch_begin(EpochKind::incremental);
  begin.objects[2].object.size_bytes = 4096;                                    // the disk shrinks
  begin.objects[1] = {900, {ObjectClass::ram, "new-dimm", 8192, 1u << 21, 0}};  // the ROM makes room
  std::swap(begin.objects[0].number, begin.objects[3].number);                  // numbers mean nothing across epochs
  connection_.close(begin);
  ASSERT_TRUE(connection_.end(2, 0, 8192 + 4096).ok());
  connection_.answers();
  connection_.to.data(2, {900, 4096, pattern(4096, 3)});
  begin = examples::epoch_begin(EpochKind::incremental);
  connection_.close(begin);
  ASSERT_TRUE(connection_.end(1, 0, 4096).ok());
  connection_.answers();
  connection_.close();
  ASSERT_TRUE(connection_.end(0, 0, 0).ok());
  EXPECT_EQ(content(2, "disk0"), part(pattern(8192, 1), 0, 4096));
  EXPECT_EQ(part(content(2, "new-dimm"), 4096, 4096), pattern(4096, 3));
  EXPECT_TRUE(content(2, "pc.rom").empty());
  EXPECT_EQ(content(3, "pc.rom"), Bytes(4096)) << "it is a new one";
  Bytes disk = content(3, "disk0");
  EXPECT_EQ(part(disk, 0, 4096), part(pattern(8192, 1), 0, 4096));
  EXPECT_EQ(part(disk, 4096, 4096), Bytes(4096)) << "what was cut off stays gone";
}

TEST_F(ReceiverTest, ARefusedHelloIsToldWhy) {
  StreamReceiver::Events events;
  events.hello = [](const StreamHello& hello) -> Status {
    EXPECT_EQ(hello.machine_type, "pc-q35-10.0");
    return make_error(Code::refused, "another client has this machine; stop it first");
  };
  RawConnection connection(*store_, options(), events);
  connection.to.hello(examples::hello());
  EXPECT_EQ(connection.send().error().code, Code::refused);
  EXPECT_EQ(connection.refusal(), "another client has this machine; stop it first");
}

TEST_F(ReceiverTest, AFutureClientIsToldTheVersions) {
  wire::Hello hello = examples::hello();
  hello.version = 2;
  connection_.to.hello(hello);
  EXPECT_EQ(connection_.send().error().code, Code::version);
  EXPECT_NE(connection_.refusal().find("version 2"), std::string::npos);
}

TEST_F(ReceiverTest, AMachineThatTheStoreDoesNotKnowIsRefused) {
  RawConnection connection(*store_, options("nobody"));
  connection.to.hello(examples::hello());
  EXPECT_EQ(connection.send().error().code, Code::not_found);
  EXPECT_NE(connection.refusal().find("nobody"), std::string::npos);
}

TEST_F(ReceiverTest, AnErrorIsForGood) {
  Bytes message = examples::files()["data"];
  Status first;
  for (std::size_t i = 0; i < message.size(); ++i) first = connection_.receiver().feed(ByteView(message).subspan(i, 1));
  EXPECT_EQ(first.error().code, Code::protocol);
  EXPECT_NE(connection_.refusal(), "");
  EXPECT_EQ(connection_.receiver().missing_bytes(), 0u);
  connection_.to.hello(examples::hello());
  EXPECT_EQ(connection_.send().error().context, first.error().context);
  EXPECT_TRUE(connection_.receiver().output().empty());
  EXPECT_FALSE(connection_.receiver().take());
}

TEST_F(ReceiverTest, KnowsWhatIsMissingOfAMessage) {
  Bytes hello = examples::short_stream()[0];
  EXPECT_EQ(connection_.receiver().missing_bytes(), 0u);
  ASSERT_TRUE(connection_.receiver().feed(ByteView(hello).first(10)).ok());
  EXPECT_EQ(connection_.receiver().missing_bytes(), 14u);
  ASSERT_TRUE(connection_.receiver().feed(ByteView(hello).subspan(10, 20)).ok());
  EXPECT_EQ(connection_.receiver().missing_bytes(), hello.size() - 30);
  ASSERT_TRUE(connection_.receiver().feed(ByteView(hello).subspan(30)).ok());
  EXPECT_EQ(connection_.receiver().missing_bytes(), 0u);
}

TEST_F(ReceiverTest, AModelMachineIsKeptExactly) {
  tools::MachineOptions machine;
  machine.ram_bytes = 4 << 20;
  machine.disk_bytes = (2 << 20) + 512;
  tools::MachineModel model(machine);
  std::map<std::uint64_t, tools::MachineDigest> digests;
  tools::StreamClient client(
      model, {300, 50, {1}, {}, ""},
      {nullptr, [&](std::uint64_t epoch, const auto& digest) { digests[epoch] = digest; }, nullptr});
  client.connect();
  Status status = tools::LocalSession(client, connection_.receiver()).take(12);
  ASSERT_TRUE(status.ok()) << status.error().message();
  ASSERT_EQ(numbers().size(), 12u);
  for (const auto& [epoch, digest] : digests) {
    auto reader = store_->open_checkpoint({"m", epoch});
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(tools::digest_of(**reader)->text(), digest.text()) << epoch;
  }
}

}  // namespace
}  // namespace ckpt
