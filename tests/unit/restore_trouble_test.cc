// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A whole agent whose store is away, hangs or is damaged.
#include "away_env.h"
#include "format/node.h"
#include "format/segment.h"
#include "session_fixture.h"

namespace agent {
namespace {

// Of a byte in the first frame of tree nodes of segment 1.
off_t offset_of_first_leaf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const Bytes bytes{std::istreambuf_iterator<char>(file), {}};
  for (std::size_t at = ckpt::segment_header_bytes; at < bytes.size();) {
    auto head = ckpt::decode_frame_head(ckpt::ByteView(bytes).subspan(at), ckpt::frame_seed(1, at));
    if (!head.ok()) break;
    if (head->table[0].length == ckpt::node_bytes) return static_cast<off_t>(at + head->payload_offset());
    at += head->total_bytes();
  }
  ADD_FAILURE() << "no node in " << path;
  return 0;
}

TEST_F(SessionTest, AStoreThatLeavesUnderTheAgentIsWaitedFor) {
  for (Mode mode : {Mode::lazy, Mode::aggressive}) {
    options_.mode = mode;
    StandInQemu qemu;
    ckpt::AwayEnv env;
    RunningAgent agent(options_, env);
    env.set_away(true);
    qemu.hand_over(options_.socket, Phase::fresh);
    std::thread reader([&] { wrong_ += qemu.read_all(3); });
    auto status = agent.status();
    while (env.failed() < 5 || status["state"] != "waiting for store") status = agent.status();
    EXPECT_NE(status["reason"].get<std::string>().find("the store's disk is away"), std::string::npos) << status;
    EXPECT_GT(status["store_errors"], 0);
    EXPECT_GT(status["faults_pending"], 0);
    env.set_away(false);
    reader.join();
    EXPECT_EQ(wrong_, 0u);
    while (status["state"] == "waiting for store") status = agent.status();
    EXPECT_EQ(status["reason"], "");
    complete(agent, qemu);
  }
}

TEST_F(SessionTest, AStoreThatDoesNotAnswerIsSaidToBeWaitedFor) {
  options_.mode = Mode::lazy;
  ckpt::AwayEnv env;
  RunningAgent agent(options_, env);
  qemu_.hand_over(options_.socket, Phase::fresh);
  env.set_silent(true);
  touch(1);
  auto status = agent.status_with_state("waiting for store");
  EXPECT_NE(status["reason"].get<std::string>().find("has not answered"), std::string::npos) << status;
  env.set_silent(false);
  EXPECT_EQ(wrong(), 0u);
  complete(agent, qemu_);
}

TEST_F(SessionTest, ADamagedFrameHoldsUpItsOwnPagesOnly) {
  os::Fd segment(open((directory_ / "store/segments/0000000000000001.seg").c_str(), O_RDWR | O_CLOEXEC));
  off_t at = lseek(segment.get(), 0, SEEK_END) / 8;
  std::uint8_t good = 0;
  ASSERT_EQ(pread(segment.get(), &good, 1, at), 1);
  std::uint8_t bad = good ^ 0x10;
  ASSERT_EQ(pwrite(segment.get(), &bad, 1, at), 1);
  RunningAgent agent(options_);
  qemu_.hand_over(options_.socket, Phase::fresh);
  auto status = agent.status();
  while (status["pages_present"] < pages * 2 / 3 - 8) status = agent.status();
  status = agent.status_with_state("waiting for store");
  EXPECT_NE(status["reason"].get<std::string>().find("0000000000000001.seg"), std::string::npos) << status;
  EXPECT_GT(status["store_errors"], 0);
  EXPECT_LT(status["pages_present"], pages * 2 / 3);
  ASSERT_EQ(pwrite(segment.get(), &good, 1, at), 1);
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  EXPECT_EQ(qemu_.read_all(2), 0u);
  qemu_.let_go();
  EXPECT_EQ(agent.wait_end(), exit_done);
}

// The manifest's tree says there where a part of the pages is.
TEST_F(SessionTest, ADamagedNodeHoldsUpItsOwnPagesOnly) {
  const std::string path = directory_ / "store/segments/0000000000000001.seg";
  os::Fd segment(open(path.c_str(), O_RDWR | O_CLOEXEC));
  const off_t at = offset_of_first_leaf(path);
  std::uint8_t good = 0;
  ASSERT_EQ(pread(segment.get(), &good, 1, at), 1);
  std::uint8_t bad = good ^ 0x10;
  ASSERT_EQ(pwrite(segment.get(), &bad, 1, at), 1);
  // Of which nobody knows now whether it is zero.
  record(1);
  RunningAgent agent(options_);
  qemu_.hand_over(options_.socket, Phase::fresh);
  auto status = agent.status();
  while (status["pages_present"] < pages / 4) status = agent.status();
  status = agent.status_with_state("waiting for store");
  EXPECT_NE(status["reason"].get<std::string>().find("0000000000000001.seg"), std::string::npos) << status;
  ASSERT_EQ(pwrite(segment.get(), &good, 1, at), 1);
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  EXPECT_EQ(qemu_.read_all(2), 0u);
  qemu_.let_go();
  EXPECT_EQ(agent.wait_end(), exit_done);
}

}  // namespace
}  // namespace agent
