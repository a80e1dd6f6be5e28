// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A store that cannot take an epoch: the client is told, older checkpoints stay whole, and capture goes on when it can.
#include <fstream>

#include "local_session.h"
#include "stream_fixture.h"

namespace ckpt {
namespace {

// The system, on a disk that can be full.
class FullDiskFile final : public File {
public:
  FullDiskFile(std::unique_ptr<File> file, const bool& full) : file_(std::move(file)), full_(full) {}

  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override {
    return file_->read_at(offset, out);
  }
  Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    if (full_) return system_error(ENOSPC, "writing");
    return file_->write_at(offset, data);
  }
  Status sync() override { return file_->sync(); }
  Status truncate(std::uint64_t size) override { return file_->truncate(size); }
  Result<std::uint64_t> size() override { return file_->size(); }

private:
  std::unique_ptr<File> file_;
  const bool& full_;
};

class FullDiskEnv final : public Env {
public:
  bool full = false;

  Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) override {
    if (full && mode == Mode::create_new) return system_error(ENOSPC, path);
    CKPT_ASSIGN(auto file, system_.open(path, mode));
    return std::unique_ptr<File>(new FullDiskFile(std::move(file), full));
  }
  Status rename(const std::string& from, const std::string& to) override { return system_.rename(from, to); }
  Status remove(const std::string& path) override { return system_.remove(path); }
  Status make_directory(const std::string& path) override { return system_.make_directory(path); }
  Status sync_directory(const std::string& path) override { return system_.sync_directory(path); }
  Result<std::vector<std::string>> list(const std::string& path) override { return system_.list(path); }
  Result<std::unique_ptr<File>> lock(const std::string& path) override { return system_.lock(path); }
  Result<std::uint64_t> free_bytes(const std::string& path) override { return system_.free_bytes(path); }
  std::uint64_t now_ns() override { return system_.now_ns(); }
  Status random(std::span<std::uint8_t> out) override { return system_.random(out); }

private:
  Env& system_ = Env::system();
};

class StreamSpaceTest : public StreamTest {
protected:
  StreamSpaceTest() { open_store(env_); }
  ~StreamSpaceTest() override { store_.reset(); }

  FullDiskEnv env_;
};

TEST_F(StreamSpaceTest, AFullDiskCostsOnlyTheEpochUnderWay) {
  tools::MachineOptions machine;
  machine.ram_bytes = 4 << 20;
  machine.disk_bytes = 1 << 20;
  tools::MachineModel model(machine);
  std::map<std::uint64_t, tools::MachineDigest> digests;
  std::vector<wire::WelcomeMode> modes;
  tools::StreamClient client(model, {200, 20, {3}, {}, ""},
                             {[&](const wire::Welcome& welcome) { modes.push_back(welcome.mode); },
                              [&](std::uint64_t epoch, const auto& digest) { digests[epoch] = digest; }, nullptr});
  {
    auto receiver = StreamReceiver::create(*store_, options(), {});
    client.connect();
    ASSERT_TRUE(tools::LocalSession(client, *receiver).take(3).ok());
    env_.full = true;
    Status status = tools::LocalSession(client, *receiver).take(1);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::no_space);
    Status told = client.feed(receiver->output());
    ASSERT_FALSE(told.ok());
    EXPECT_NE(told.error().context.find("older checkpoints are whole"), std::string::npos) << told.error().context;
    EXPECT_EQ(receiver->open_epoch(), 0u);
  }
  EXPECT_EQ(numbers(), (std::vector<std::uint64_t>{1, 2, 3}));
  {
    auto receiver = StreamReceiver::create(*store_, options(), {});
    client.connect();
    EXPECT_FALSE(tools::LocalSession(client, *receiver).take(1).ok())
        << "still full: this test would show nothing otherwise";
  }
  env_.full = false;
  auto receiver = StreamReceiver::create(*store_, options(), {});
  client.connect();
  Status status = tools::LocalSession(client, *receiver).take(3);
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_EQ(modes.back(), wire::WelcomeMode::continue_) << "no full copy";
  std::vector<std::uint64_t> kept = numbers();
  EXPECT_EQ(kept.size(), 6u);
  for (std::uint64_t number : kept) {
    auto reader = store_->open_checkpoint({"m", number});
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(tools::digest_of(**reader)->text(), digests[number].text()) << number;
  }
}

// What a client may announce costs nothing until it sends it.
TEST_F(StreamSpaceTest, TheLargestObjectsThatCanBeAnnouncedCostNothing) {
  RawConnection connection(*store_, options());
  wire::EpochBegin begin = examples::epoch_begin(wire::EpochKind::full);
  begin.objects[0].object.size_bytes = wire::max_object_bytes;
  begin.objects[2].object.size_bytes = wire::max_object_bytes;
  connection.to.hello(examples::hello());
  connection.to.epoch_begin(1, begin);
  connection.to.zero(1, {examples::ram_number, 0, wire::max_object_bytes});
  connection.to.data(1, {examples::ram_number, wire::max_object_bytes - 4096, examples::pattern(4096, 1)});
  connection.to.data(1, {examples::ram_number, wire::max_object_bytes / 2, examples::pattern(4096, 2)});
  connection.to.zero(1, {examples::disk_number, 512, wire::max_object_bytes - 1024});
  ASSERT_TRUE(connection.send().ok());
  ASSERT_TRUE(connection.receiver().take());
  begin.kind = wire::EpochKind::incremental;
  connection.to.epoch_begin(2, begin);
  connection.to.zero(2, {examples::ram_number, 4096, wire::max_object_bytes - 8192});
  connection.to.epoch_end(1, examples::epoch_end(2, 2, 8192));
  ASSERT_TRUE(connection.send().ok());
  ASSERT_TRUE(connection.receiver().take());
  begin.objects[0].object.size_bytes = 4096;
  connection.to.epoch_begin(3, begin);
  connection.to.epoch_end(2, examples::epoch_end(0, 1, 0));
  Status status = connection.send();
  ASSERT_TRUE(status.ok()) << status.error().message();
  Bytes page(4096);
  for (auto [number, present] : {std::pair(1, true), std::pair(2, false)}) {
    auto reader = store_->open_checkpoint({"m", static_cast<std::uint64_t>(number)});
    ASSERT_TRUE(reader.ok());
    ASSERT_TRUE((*reader)->read(0, wire::max_object_bytes - 4096, page).ok());
    EXPECT_EQ(page, examples::pattern(4096, 1));
    ASSERT_TRUE((*reader)->read(0, wire::max_object_bytes / 2, page).ok());
    EXPECT_EQ(page == examples::pattern(4096, 2), present);
  }
}

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * 4096;
}

// A ZERO is 48 bytes; what is remembered of it, in a place of its own, is 600.
TEST_F(StreamSpaceTest, ManySmallMessagesFarApartAreNotKeptInMemory) {
  constexpr std::uint64_t rounds = 300;
  constexpr std::uint64_t messages = 5000;
  constexpr std::uint64_t stride = 2 * 64 * 4096;
  wire::EpochBegin begin = examples::epoch_begin(wire::EpochKind::full);
  begin.objects[0].object.size_bytes = wire::max_object_bytes;
  RawConnection connection(*store_, options());
  connection.to.hello(examples::hello());
  connection.to.epoch_begin(1, begin);
  connection.to.data(1, {examples::ram_number, 0, examples::pattern(4096, 1)});
  connection.to.data(1, {examples::ram_number, stride, examples::pattern(4096, 2)});
  ASSERT_TRUE(connection.send().ok());
  std::uint64_t before = resident_bytes();
  std::uint64_t most = before;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::uint64_t i = 0; i < messages; ++i) {
      connection.to.zero(1, {examples::ram_number, (1 + round * messages + i) * stride, 4096});
    }
    ASSERT_TRUE(connection.send().ok());
    most = std::max(most, resident_bytes());
  }
  connection.to.data(1, {examples::ram_number, 5 * stride, examples::pattern(4096, 3)});
  ASSERT_TRUE(connection.send().ok());
  ASSERT_TRUE(connection.receiver().take());
  begin.objects[0].object.size_bytes = 4096;
  connection.to.epoch_begin(2, begin);
  connection.to.epoch_end(1, examples::epoch_end(3, rounds * messages, 3 * 4096));
  Status status = connection.send();
  ASSERT_TRUE(status.ok()) << status.error().message();
  most = std::max(most, resident_bytes());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they take memory of their own
  EXPECT_LT(most - before, 128u << 20) << "of " << rounds * messages * 600 << " if all were kept";
#endif
  auto reader = store_->open_checkpoint({"m", 1}).take();
  std::array<std::uint8_t, 4096> page;
  ASSERT_TRUE(*reader->read_page(0, 0, page));
  EXPECT_EQ(Bytes(page.begin(), page.end()), examples::pattern(4096, 1));
  EXPECT_FALSE(*reader->read_page(0, stride / 4096, page)) << "zeroed after it had been written";
  ASSERT_TRUE(*reader->read_page(0, 5 * stride / 4096, page));
  EXPECT_EQ(Bytes(page.begin(), page.end()), examples::pattern(4096, 3));
}

}  // namespace
}  // namespace ckpt
