// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "ckpt/env.h"
#include "ckpt/stream.h"
#include "stream/message_reader.h"
#include "stream_examples.h"
#include "temp_dir.h"

namespace ckpt {

// One answer of the receiver.
struct Answer {
  wire::Header header;
  Bytes payload;
};

// A connection whose client is the test itself.
class RawConnection {
public:
  RawConnection(Store& store, StreamReceiver::Options options, StreamReceiver::Events events = {})
      : receiver_(StreamReceiver::create(store, std::move(options), std::move(events))) {}

  wire::StreamWriter to{bytes_};
  StreamReceiver& receiver() { return *receiver_; }

  // Feeds what has been written to `to` since the last time.
  Status send() { return receiver_->feed(std::exchange(bytes_, {})); }

  std::vector<Answer> answers() {
    std::vector<Answer> found;
    Status status = reader_.feed(std::exchange(receiver_->output(), {}),
                                 [&](const wire::Header& header, ByteView payload) -> Status {
                                   found.push_back({header, Bytes(payload.begin(), payload.end())});
                                   return {};
                                 });
    EXPECT_TRUE(status.ok());
    return found;
  }
  // The only one there is.
  Answer answer() {
    auto found = answers();
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? Answer{} : found[0];
  }
  wire::Welcome welcome() {
    auto welcome = wire::decode_welcome(answer().payload);
    EXPECT_TRUE(welcome.ok());
    return welcome.ok() ? *welcome : wire::Welcome{};
  }
  std::string refusal() {
    auto found = answers();
    if (found.empty() || found.back().header.type != wire::Type::refuse) return "";
    return wire::decode_refuse(found.back().payload)->reason;
  }

  // HELLO, WELCOME, and the first epoch open.
  void open(wire::EpochKind kind = wire::EpochKind::full, const wire::Hello& hello = examples::hello()) {
    to.hello(hello);
    ASSERT_TRUE(send().ok());
    next_ = welcome().next_epoch;
    to.epoch_begin(next_, examples::epoch_begin(kind));
    ASSERT_TRUE(send().ok());
  }
  std::uint64_t open_number() const { return next_; }

  // TAKE, the next epoch opens; the one before is closed now.
  void close(const wire::EpochBegin& begin = examples::epoch_begin(wire::EpochKind::incremental)) {
    ASSERT_TRUE(receiver_->take());
    ASSERT_EQ(answer().header.type, wire::Type::take);
    to.epoch_begin(++next_, begin);
    Status status = send();
    ASSERT_TRUE(status.ok()) << status.error().message();
  }
  // EPOCH_END with the right counts for the closed epoch.
  Status end(std::uint64_t data_count, std::uint64_t zero_count, std::uint64_t data_bytes) {
    to.epoch_end(next_ - 1, examples::epoch_end(data_count, zero_count, data_bytes));
    return send();
  }

private:
  Bytes bytes_;
  std::unique_ptr<StreamReceiver> receiver_;
  MessageReader reader_;
  std::uint64_t next_ = 0;
};

class StreamTest : public ::testing::Test {
protected:
  StreamTest() { open_store(Env::system()); }

  void open_store(Env& env) {
    store_.reset();
    StoreOptions options;
    options.create = true;
    auto store = Store::open(env, directory_ / "store", options);
    ASSERT_TRUE(store.ok()) << store.error().message();
    store_ = store.take();
    Status added = store_->add_machine("m", {});
    ASSERT_TRUE(added.ok() || added.error().code == Code::exists) << added.error().message();
  }

  static StreamReceiver::Options options(std::string machine = "m") { return {std::move(machine), 1000, config}; }

  std::vector<std::uint64_t> numbers(const std::string& machine = "m") {
    std::vector<std::uint64_t> found;
    auto kept = store_->checkpoints(machine);
    if (kept.ok())
      for (const CheckpointInfo& info : *kept) found.push_back(info.id.number);
    return found;
  }

  // An object's bytes in a checkpoint; empty when it is not there.
  Bytes content(std::uint64_t number, const std::string& name, const std::string& machine = "m") {
    auto reader = store_->open_checkpoint({machine, number});
    EXPECT_TRUE(reader.ok()) << reader.error().message();
    if (!reader.ok()) return {};
    for (std::size_t i = 0; i < (*reader)->objects().size(); ++i) {
      const Object& object = (*reader)->objects()[i];
      if (object.name != name) continue;
      Bytes bytes(object.size_bytes);
      Status status = (*reader)->read(i, 0, bytes);
      EXPECT_TRUE(status.ok()) << status.error().message();
      return bytes;
    }
    return {};
  }

  static Bytes part(const Bytes& bytes, std::size_t offset, std::size_t length) {
    if (offset + length > bytes.size()) return {};
    return Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                 bytes.begin() + static_cast<std::ptrdiff_t>(offset + length));
  }

  static constexpr char config[] = R"({"arguments":["-m","64M"]})";

  TempDir directory_;
  std::unique_ptr<Store> store_;
};

}  // namespace ckpt
