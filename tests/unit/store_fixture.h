// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A store on a disk that fails on demand, with two machines, "vm" and "other", whose pages are told apart by a number.
#pragma once

#include <gtest/gtest.h>

#include "format/node.h"
#include "format/segment.h"
#include "unit/fault_env.h"
#include "unit/store_model.h"

namespace ckpt {

inline constexpr std::uint64_t ram_bytes = 1 << 20;

class StoreFixture : public ::testing::Test {
protected:
  void SetUp() override {
    ASSERT_TRUE(env.make_directory("/disk").ok());
    store = open();
    ASSERT_TRUE(store->add_machine("vm", {}).ok());
    ASSERT_TRUE(store->add_machine("other", {}).ok());
  }
  std::unique_ptr<Store> open(bool read_only = false) {
    StoreOptions options = model_options();
    options.segment_size_bytes = 64 << 10;
    options.read_only = read_only;
    options.create = !read_only;
    auto opened = Store::open(env, "/disk/store", options);
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    return opened.take();
  }
  static std::vector<Object> objects() { return {{ObjectClass::ram, "ram", ram_bytes, 4096, 0}}; }
  static std::vector<std::uint8_t> page(std::uint64_t id) {
    std::vector<std::uint8_t> bytes(4096);
    std::mt19937_64 engine(id);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(engine());
    return bytes;
  }
  // Writes pages first, first+1, … with contents id, id+1, …
  void commit(const std::string& machine, std::uint64_t number, CheckpointId parent, std::uint64_t first, int count,
              std::uint64_t id) {
    auto epoch = store->begin_epoch(machine, number, {.parent = parent}, objects());
    ASSERT_TRUE(epoch.ok()) << epoch.error().message();
    for (int i = 0; i < count; ++i) ASSERT_TRUE((*epoch)->write(0, (first + i) * 4096, page(id + i)).ok());
    auto made = (*epoch)->commit({});
    ASSERT_TRUE(made.ok()) << made.error().message();
  }
  void remove(const std::string& machine, std::vector<std::uint64_t> numbers) {
    ASSERT_TRUE(store->remove(machine, numbers).ok());
  }
  std::uint64_t collect_all() {
    std::uint64_t total = 0;
    for (;;) {
      auto freed = store->collect();
      EXPECT_TRUE(freed.ok()) << (freed.ok() ? "" : freed.error().message());
      if (!freed || *freed == 0) return total;
      total += *freed;
    }
  }
  void expect_page(Store& from, CheckpointId id, std::uint64_t at, std::uint64_t content) {
    auto reader = from.open_checkpoint(id);
    ASSERT_TRUE(reader.ok()) << reader.error().message();
    expect_page(**reader, at, content);
  }
  void expect_page(CheckpointReader& reader, std::uint64_t at, std::uint64_t content) {
    std::vector<std::uint8_t> bytes(4096);
    Status status = reader.read(0, at * 4096, bytes);
    ASSERT_TRUE(status.ok()) << status.error().message();
    EXPECT_EQ(bytes, page(content));
  }

  enum class Kind { page, node, manifest };
  struct Place {
    std::string path;
    std::uint64_t offset = 0;
  };
  // A byte in each frame of this kind, in the order stored.
  std::vector<Place> places(Kind kind) {
    std::vector<Place> found;
    auto names = env.list("/disk/store/segments").take();
    for (const std::string& name : names) {
      std::string path = "/disk/store/segments/" + name;
      Bytes bytes = env.content(path);
      std::uint64_t segment = std::stoull(name, nullptr, 16);
      for (std::size_t at = segment_header_bytes; at < bytes.size();) {
        auto head = decode_frame_head(ByteView(bytes).subspan(at), frame_seed(segment, at));
        if (!head) break;
        std::uint32_t length = head->table[0].length;
        Kind its = length == page_size_bytes ? Kind::page : length == node_bytes ? Kind::node : Kind::manifest;
        if (its == kind) found.push_back({path, at + head->payload_offset() + 1});
        at += head->total_bytes();
      }
    }
    EXPECT_FALSE(found.empty());
    return found;
  }
  Place newest(Kind kind) { return places(kind).back(); }

  FaultEnv env{1};
  std::unique_ptr<Store> store;
};

}  // namespace ckpt
