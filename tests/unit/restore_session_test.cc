// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A whole agent that serves, fetches, is replaced.
#include <sys/stat.h>

#include "away_env.h"
#include "plan.h"
#include "session_fixture.h"

namespace agent {
namespace {

TEST_F(SessionTest, ServesThreadsWhileItFetchesTheRest) {
  RunningAgent agent(options_);
  qemu_.hand_over(options_.socket, Phase::fresh);
  touch(4);
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  EXPECT_EQ(wrong(), 0u);
  qemu_.let_go();
  EXPECT_EQ(agent.wait_end(), exit_done);
  EXPECT_EQ(qemu_.read_all(9), 0u);  // what was missing is zero
}

TEST_F(SessionTest, ALazyOneFetchesWhatIsTouchedAndCountsWhoWaits) {
  options_.mode = Mode::lazy;
  RunningAgent agent(options_);
  qemu_.hand_over(options_.socket, Phase::fresh);
  EXPECT_EQ(agent.ask("vcpus " + std::to_string(gettid())), R"({"ok":true})");
  EXPECT_EQ(qemu_.read_all(5), 0u);
  auto status = agent.status();
  EXPECT_EQ(status["pages_prefetched"], 0);
  EXPECT_GT(status["service"]["waited_us"], 0);
  EXPECT_LT(status["service"]["waited_us"], status["service"]["counted_us"]);
  EXPECT_EQ(agent.ask("mode aggressive"), R"({"ok":true})");
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  qemu_.let_go();
  EXPECT_EQ(agent.wait_end(), exit_done);
  auto recorded = WorkingSet(options_.working_set).load().take();
  auto zero = [](const WorkingSetPage& page) { return word_of(page.page) == 0; };
  EXPECT_TRUE(std::any_of(recorded.begin(), recorded.end(), zero)) << "somebody waited for zeroes too";
}

TEST_F(SessionTest, TheWorkingSetComesFirstWithWhatLiesAroundIt) {
  record(199);
  auto source = Source::open(options_.store, options_.checkpoint).take();
  auto map = MemoryMap::create({{"pc.ram", 1 << 20, memory_bytes, memory_bytes, 4096}}, source->objects()).take();
  Progress progress(options_);
  WorkingSet set(options_.working_set);
  Hints hints;
  Plan plan(*map, *source, progress, set, hints);
  plan.start();
  Loader loader(*source, 1);
  Batch first = plan.next(loader).take();
  EXPECT_TRUE(first.soon);
  ASSERT_EQ(first.places.pages.size(), 1u);
  EXPECT_EQ(first.places.pages[0].page, 199u);
  EXPECT_TRUE(first.zeroes.empty());
  Batch around = plan.next(loader).take();
  EXPECT_TRUE(around.soon);
  std::vector<std::uint64_t> there, zeroes;
  for (std::uint64_t page = 192; page < 256; ++page) (word_of(page) == 0 ? zeroes : there).push_back(page);
  std::vector<std::uint64_t> got;
  for (const auto& page : around.places.pages) got.push_back(page.page);
  std::sort(got.begin(), got.end());
  EXPECT_EQ(got, there);
  EXPECT_EQ(around.zeroes, zeroes);
  Batch next = plan.next(loader).take();
  EXPECT_FALSE(next.empty());
  EXPECT_FALSE(next.soon);
  EXPECT_TRUE(next.zeroes.empty());
}

// Where they are is asked of the store, too.
TEST_F(SessionTest, WhileOneFindsOutWhatComesNextTheOthersGoOn) {
  // More than a batch, in the first of the frames that the tree's leaves are in; then one in the second.
  WorkingSet set(options_.working_set);
  for (std::uint64_t page = 1; page <= 300; ++page) set.record("pc.ram", page);
  set.record("pc.ram", 5000);
  ASSERT_TRUE(set.save().ok());
  ckpt::AwayEnv env;
  auto source = Source::open(options_.store, options_.checkpoint, env).take();
  auto map = MemoryMap::create({{"pc.ram", 1 << 20, memory_bytes, memory_bytes, 4096}}, source->objects()).take();
  Progress progress(options_);
  Hints hints;
  Plan plan(*map, *source, progress, set, hints);
  plan.start();
  Loader loader(*source, 1), other(*source, 1);
  ASSERT_TRUE(plan.look_ahead(loader).ok());
  env.set_silent(true);
  std::thread finder([&] { EXPECT_TRUE(plan.look_ahead(other).ok()); });
  while (!env.waited_for()) std::this_thread::yield();
  Batch first = plan.next(loader).take();
  EXPECT_FALSE(first.empty());
  env.set_silent(false);
  finder.join();
  Batch second = plan.next(loader).take();
  std::size_t count =
      first.places.pages.size() + first.zeroes.size() + second.places.pages.size() + second.zeroes.size();
  EXPECT_EQ(count, 301u);
}

TEST_F(SessionTest, AFarStoreIsAskedForManyFramesAtATime) {
  ckpt::AwayEnv env;
  RunningAgent agent(options_, env);
  env.set_far(std::chrono::milliseconds(2));
  const std::uint64_t before = env.reads();
  qemu_.hand_over(options_.socket, Phase::fresh);
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  EXPECT_LT(env.reads() - before, pages * 2 / 3 / 4 / 2) << "there are four pages in a frame";
  EXPECT_EQ(qemu_.read_all(4), 0u);
  qemu_.let_go();
  EXPECT_EQ(agent.wait_end(), exit_done);
}

TEST_F(SessionTest, AFarStoreServesThreadsWhileItsRestIsFetched) {
  ckpt::AwayEnv env;
  env.set_far(std::chrono::microseconds(500));
  for (Mode mode : {Mode::lazy, Mode::aggressive}) {
    options_.mode = mode;
    StandInQemu qemu;
    RunningAgent agent(options_, env);
    qemu.hand_over(options_.socket, Phase::fresh);
    for (unsigned i : {1, 2}) readers_.emplace_back([&, i] { wrong_ += qemu.read_all(i); });
    EXPECT_EQ(wrong(), 0u);
    complete(agent, qemu);
  }
}

TEST_F(SessionTest, NobodyWaitsForZeroesOfTheWorkingSet) {
  record(3);
  RunningAgent agent(options_);
  qemu_.hand_over(options_.socket, Phase::fresh);
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  for (std::uint64_t page = 0; page < 64; ++page) EXPECT_EQ(qemu_.word(page), word_of(page));
  EXPECT_EQ(agent.status()["faults"], 0);
  EXPECT_EQ(qemu_.word(66), 0u);
  EXPECT_EQ(agent.status()["faults"], 1) << "a zero page that nobody has used before is not filled";
  qemu_.let_go();
  EXPECT_EQ(agent.wait_end(), exit_done);
}

TEST_F(SessionTest, AnotherMachineIsRefusedAndTheOwnOneMayComeBack) {
  options_.mode = Mode::lazy;
  RunningAgent agent(options_);
  qemu_.hand_over(options_.socket, Phase::fresh);
  qemu_.hand_over(options_.socket, Phase::registered, 8, MessageType::refuse);
  qemu_.hand_over(options_.socket, Phase::fresh, 7, MessageType::refuse);
  qemu_.hand_over(options_.socket, Phase::registered);
  touch(1);
  EXPECT_EQ(wrong(), 0u);
  complete(agent, qemu_);
}

TEST_F(SessionTest, AWorkingSetThatCannotBeWrittenNowHoldsUpNobody) {
  // Whoever opens it to write waits for a reader, as for a server that is away.
  std::string fifo = options_.working_set + ".new";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  RunningAgent agent(options_);
  qemu_.hand_over(options_.socket, Phase::fresh);
  touch(2);
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  EXPECT_EQ(wrong(), 0u);
  qemu_.let_go();
  auto status = nlohmann::json::parse(std::ifstream(options_.status));
  while (status["state"] != "done") status = nlohmann::json::parse(std::ifstream(options_.status));
  os::Fd reader(open(fifo.c_str(), O_RDONLY | O_CLOEXEC));
  // The slower the host, the more pages were waited for: it may be more than a pipe holds.
  std::array<char, 4096> bytes;
  while (read(reader.get(), bytes.data(), bytes.size()) > 0) {
  }
  EXPECT_EQ(agent.wait_end(), exit_done);
}

TEST_F(SessionTest, ThreadsWaitUntilTheNextAgentServesThem) {
  options_.mode = Mode::lazy;
  {
    RunningAgent first(options_);
    qemu_.hand_over(options_.socket, Phase::fresh);
    first.ask("vcpus " + std::to_string(gettid()));
    touch(4);
    while (first.status()["faults"] < 50) std::this_thread::yield();
    EXPECT_EQ(first.stop(), exit_failed);
  }
  options_.mode = Mode::aggressive;
  RunningAgent second(options_);
  qemu_.hand_over(options_.socket, Phase::registered);
  EXPECT_EQ(qemu_.receive(), MessageType::done);
  EXPECT_EQ(wrong(), 0u);
  auto status = second.status();
  EXPECT_TRUE(status["taken_over"]);
  EXPECT_EQ(status["service"]["vcpus"], 1) << "the first one's figures are lost";
  qemu_.let_go();
  EXPECT_EQ(second.wait_end(), exit_done);
}

}  // namespace
}  // namespace agent
