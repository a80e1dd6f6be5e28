// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The agent's parts on their own; memory is filled in this very process through a real userfaultfd.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <fstream>
#include <thread>

#include "filler.h"
#include "handover.h"
#include "hints.h"
#include "histogram.h"
#include "options.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "temp_dir.h"
#include "working_set.h"

namespace agent {
namespace {

using ckpt::Bytes;
using ckpt::Object;
using ckpt::ObjectClass;

TEST(Histogram, PercentilesAreWithinAnEighth) {
  Histogram histogram;
  EXPECT_EQ(histogram.percentile(0.5), 0u);
  for (std::uint64_t i = 1; i <= 10000; ++i) histogram.add(i);
  EXPECT_NEAR(static_cast<double>(histogram.percentile(0.5)), 5000, 5000.0 / 8);
  EXPECT_NEAR(static_cast<double>(histogram.percentile(0.99)), 9900, 9900.0 / 8);
  EXPECT_EQ(histogram.max(), 10000u);
  histogram.add(UINT64_MAX);
  EXPECT_EQ(histogram.percentile(1), UINT64_MAX);
}

TEST(Hints, NewestFirstAndBounded) {
  Hints hints;
  for (std::uint64_t i = 0; i < 1000; ++i) hints.push({0, i});
  std::uint64_t count = 0;
  EXPECT_EQ(hints.pop()->unit, 999u);
  while (hints.pop()) ++count;
  EXPECT_EQ(count, 255u);
}

int parse(std::vector<std::string> words, Options& options) {
  words.insert(words.begin(), "restore-agent");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  optind = 0;
  auto parsed = parse_options(static_cast<int>(argv.size()), argv.data(), options);
  return parsed.ok() ? (*parsed ? 1 : 2) : 0;
}

TEST(Options, AreCheckedWithACure) {
  Options options;
  EXPECT_EQ(parse({"--store", "/s", "--checkpoint", "vm@1@17", "--socket", "/x", "--status", "/st", "--bandwidth",
                   "10485760"},
                  options),
            1);
  EXPECT_EQ(options.checkpoint.machine, "vm@1");
  EXPECT_EQ(options.checkpoint.number, 17u);
  EXPECT_EQ(options.bandwidth_bytes_s, 10u << 20);
  EXPECT_EQ(options.control, "/st.sock");
  for (const char* bad : {"vm", "vm@", "vm@0", "@3", "vm@3x", "vm@-1"})
    EXPECT_EQ(parse({"--store", "/s", "--checkpoint", bad, "--socket", "/x"}, options), 0) << bad;
  for (const char* bad : {"", "M", "10M", "-1", "0x10", "99999999999999999999"})
    EXPECT_EQ(parse({"--store", "/s", "--checkpoint", "a@1", "--socket", "/x", "--bandwidth", bad}, options), 0) << bad;
  Options empty;
  EXPECT_EQ(parse({"--store", "/s"}, empty), 0);
  EXPECT_EQ(parse({"--mode", "eager"}, empty), 0);
  EXPECT_EQ(parse({"--socket", std::string(200, 'a')}, empty), 0);
}

TEST(SmallFile, IsReplacedAndBounded) {
  ckpt::TempDir directory;
  std::string path = directory.path() + "/file";
  EXPECT_EQ(os::read_file(path, 10).error().code, ckpt::Code::not_found);
  ASSERT_TRUE(os::replace_file(path, "hello").ok());
  EXPECT_EQ(*os::read_file(path, 10), "hello");
  EXPECT_EQ(os::read_file(path, 4).error().code, ckpt::Code::limit);
  ASSERT_EQ(mkfifo((directory.path() + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(os::read_file(directory.path() + "/fifo", 10).error().code, ckpt::Code::invalid);
}

TEST(WorkingSet, CarriesOverWhatWasUsedBefore) {
  ckpt::TempDir directory;
  std::string path = directory.path() + "/ws";
  WorkingSet first(path);
  EXPECT_EQ(first.load().error().code, ckpt::Code::not_found);
  first.record("ram", 5);
  first.record("ram", 9);
  first.record("ram", 5);
  ASSERT_TRUE(first.save().ok());
  WorkingSet second(path);
  ASSERT_TRUE(second.load().ok());
  second.record("ram", 9);
  second.record("ram", 1);
  ASSERT_TRUE(second.save().ok());
  WorkingSet third(path);
  EXPECT_EQ(*third.load(), (std::vector<WorkingSetPage>{{"ram", 9}, {"ram", 1}, {"ram", 5}}));
}

TEST(MemoryMap, TakesTheMachineThatWasSavedAndNoOther) {
  std::vector<Object> objects = {{ObjectClass::disk, "ram", 512, 0, 0}, {ObjectClass::ram, "ram", 8192, 4096, 0}};
  std::vector<RamBlock> blocks = {{"ram", 0x10000, 8192, 8192, 4096}};
  auto map = MemoryMap::create(blocks, objects);
  ASSERT_TRUE(map.ok());
  EXPECT_EQ((*map)->regions()[0]->object(), 1u);
  EXPECT_EQ((*map)->find(0x11fff), (UnitId{0, 1}));
  EXPECT_FALSE((*map)->find(0x12000));
  EXPECT_FALSE((*map)->find(0xffff));
  EXPECT_TRUE((*map)->same_blocks(blocks));
  objects[1].size_bytes = 4096;
  EXPECT_FALSE(MemoryMap::create(blocks, objects).ok());
  objects[1].size_bytes = 8192;
  objects.push_back({ObjectClass::ram, "more", 4096, 4096, 0});
  EXPECT_FALSE(MemoryMap::create(blocks, objects).ok());
  EXPECT_FALSE(MemoryMap::create(blocks, {}).ok());
}

// Some pages of this process, registered like a guest's.
class Filling : public testing::Test {
protected:
  static constexpr std::uint64_t pages = 32;

  void SetUp() override {
    os::Fd fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    if (!fd || ioctl(fd.get(), UFFDIO_API, &api) != 0) GTEST_SKIP() << "userfaultfd is not allowed here";
    memory_ = static_cast<std::uint8_t*>(
        mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    uffdio_register request{.range = {reinterpret_cast<std::uint64_t>(memory_), pages * 4096},
                            .mode = UFFDIO_REGISTER_MODE_MISSING,
                            .ioctls = 0};
    ASSERT_EQ(ioctl(fd.get(), UFFDIO_REGISTER, &request), 0);
    map_ = MemoryMap::create({{"ram", request.range.start, pages * 4096, pages * 4096, 4096}},
                             {{ObjectClass::ram, "ram", pages * 4096, 4096, 0}})
               .take();
    filler_ = std::make_unique<Filler>(*map_, std::move(fd));
  }
  void TearDown() override {
    if (memory_) munmap(memory_, pages * 4096);
  }

  std::uint8_t* memory_ = nullptr;
  std::unique_ptr<MemoryMap> map_;
  std::unique_ptr<Filler> filler_;
};

TEST_F(Filling, PagesThatAreThereKeepWhatTheyHave) {
  Bytes ones(4096, 1), twos(8 * 4096, 2);
  EXPECT_EQ(filler_->copy({0, 3}, ones), Fill::ok);
  EXPECT_EQ(filler_->copy({0, 5}, ones), Fill::ok);
  EXPECT_EQ(filler_->copy({0, 0}, twos), Fill::ok);
  EXPECT_EQ(filler_->zero({0, 7}, 4), Fill::ok);
  const std::uint8_t expected[] = {2, 2, 2, 1, 2, 1, 2, 2, 0, 0, 0};
  for (std::size_t i = 0; i < sizeof(expected); ++i) EXPECT_EQ(memory_[i * 4096 + 17], expected[i]) << i;
  EXPECT_EQ(filler_->present_pages(), 11u);
  EXPECT_TRUE(map_->regions()[0]->present(10));
  EXPECT_FALSE(map_->regions()[0]->present(11));
}

TEST_F(Filling, OnlyWhatIsMissingIsCopiedFromWhereverItLies) {
  Bytes ones(4096, 1), frame;
  for (std::uint8_t i = 0; i < 5; ++i) frame.insert(frame.end(), 4096, static_cast<std::uint8_t>(10 + i));
  ASSERT_EQ(filler_->copy({0, 4}, ones), Fill::ok);
  // Two in a row, one that is there, one whose bytes lie elsewhere, and a gap.
  std::vector<ckpt::PagePlace> wanted = {{2, 0}, {3, 0}, {4, 0}, {5, 0}, {9, 0}};
  std::vector<const std::uint8_t*> bytes;
  for (std::size_t at : {0, 1, 2, 4, 3}) bytes.push_back(frame.data() + at * 4096);
  std::uint64_t filled = 0;
  EXPECT_EQ(filler_->copy_missing(0, wanted, bytes, filled), Fill::ok);
  EXPECT_EQ(filled, 4u);
  EXPECT_EQ(filler_->present_pages(), 5u);
  const std::pair<std::size_t, int> expected[] = {{2, 10}, {3, 11}, {4, 1}, {5, 14}, {9, 13}};
  for (auto [page, value] : expected) EXPECT_EQ(memory_[page * 4096 + 5], value) << page;
}

TEST_F(Filling, AThreadThatWaitsIsWokenByTheFill) {
  std::uint8_t seen = 0;
  std::thread reader([&] { seen = *static_cast<volatile std::uint8_t*>(memory_ + 4096); });
  Bytes sevens(4096, 7);
  EXPECT_EQ(filler_->copy({0, 1}, sevens), Fill::ok);
  reader.join();
  EXPECT_EQ(seen, 7);
}

TEST_F(Filling, MemoryThatHasGoneIsNoError) {
  munmap(memory_ + 8 * 4096, 8 * 4096);
  Bytes data(pages * 4096, 9);
  EXPECT_EQ(filler_->copy({0, 0}, data), Fill::ok);
  EXPECT_EQ(memory_[0], 9);
  EXPECT_EQ(memory_[20 * 4096], 9);
}

Bytes head_of(std::uint16_t type, std::uint32_t length, std::uint32_t sequence) {
  Bytes out;
  ckpt::ByteWriter writer(out);
  writer.u32(0x52504B43);
  writer.u16(type);
  writer.u16(0);
  writer.u64(0);
  writer.u32(length);
  writer.u32(sequence);
  return out;
}

// What an agent says to bytes that come from no QEMU.
ckpt::Error answer_to(const Bytes& bytes) {
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  os::Fd ours(ends[0]), theirs(ends[1]);
  EXPECT_EQ(send(theirs.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  shutdown(theirs.get(), SHUT_WR);
  auto met = Connection::meet(std::move(ours), {});
  return met.ok() ? ckpt::make_error(ckpt::Code::ok, "") : met.error();
}

TEST(Handover, NonsenseIsRefused) {
  EXPECT_EQ(answer_to({}).code, ckpt::Code::unavailable);
  EXPECT_EQ(answer_to(Bytes(24, 'x')).code, ckpt::Code::protocol);
  EXPECT_EQ(answer_to(head_of(1, 0xffffffff, 0)).code, ckpt::Code::protocol);
  EXPECT_EQ(answer_to(head_of(1, 100, 5)).code, ckpt::Code::protocol);
  EXPECT_EQ(answer_to(head_of(2, 8, 0)).code, ckpt::Code::protocol);
  EXPECT_EQ(answer_to(head_of(1, 100, 0)).code, ckpt::Code::unavailable);
}

TEST(Handover, MemoryNeedsAUserfaultfd) {
  Bytes table;
  ckpt::ByteWriter blocks(table);
  for (std::uint32_t word : {1, 0}) blocks.u32(word);  // one RAM block
  for (std::uint64_t word : {0x10000000, 4096, 4096, 4096}) blocks.u64(word);
  blocks.string("a");
  Bytes bytes = head_of(1, static_cast<std::uint32_t>(24 + table.size()), 0);
  ckpt::ByteWriter writer(bytes);
  writer.u32(1);  // version
  writer.u32(1);  // registered
  writer.zeroes(16);
  writer.bytes(table);
  writer.bytes(head_of(2, static_cast<std::uint32_t>(table.size()), 1));
  writer.bytes(table);
  ckpt::Error error = answer_to(bytes);
  EXPECT_EQ(error.code, ckpt::Code::protocol);
  EXPECT_NE(error.context.find("userfaultfd"), std::string::npos) << error.context;
}

TEST(Handover, OnlyASocketIsReplaced) {
  ckpt::TempDir directory;
  std::string path = directory.path() + "/a.sock";
  ASSERT_TRUE(os::listen_unix(path, os::Listener::is_replaced).ok());
  ASSERT_TRUE(os::listen_unix(path, os::Listener::is_replaced).ok());
  std::string file = directory.path() + "/file";
  std::ofstream(file) << "precious";
  EXPECT_EQ(os::listen_unix(file, os::Listener::is_replaced).error().code, ckpt::Code::exists);
  EXPECT_TRUE(std::ifstream(file).good());
}

}  // namespace
}  // namespace agent
