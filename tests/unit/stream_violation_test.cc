// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Messages that are well formed, in sequence, and wrong where they stand.
#include <functional>

#include "stream_fixture.h"

namespace ckpt {
namespace {

using examples::device_number;
using examples::disk_number;
using examples::pattern;
using examples::ram_number;
using wire::EpochKind;

enum class At { start, welcomed, open, closed };

struct Violation {
  const char* name;
  At at;
  std::function<void(wire::StreamWriter&)> write;
  std::size_t durable = 0;  // epochs that were rightly closed by then
};

wire::Data page_at(std::uint32_t object, std::uint64_t offset) {
  static const Bytes page = pattern(4096, 1);
  return {object, offset, page};
}

wire::Data sector_at(std::uint64_t offset) {
  static const Bytes sector = pattern(512, 1);
  return {disk_number, offset, sector};
}

// In `closed`, epoch 1 is closed and 2 is open.
const Violation violations[] = {
    {"data before HELLO", At::start, [](auto& to) { to.data(1, page_at(ram_number, 0)); }},
    {"state before HELLO", At::start, [](auto& to) { to.state(0, {}); }},
    {"HELLO twice", At::welcomed, [](auto& to) { to.hello(examples::hello()); }},
    {"data before an epoch", At::welcomed, [](auto& to) { to.data(1, page_at(ram_number, 0)); }},
    {"end before an epoch", At::welcomed, [](auto& to) { to.epoch_end(1, examples::epoch_end(0, 0, 0)); }},
    {"incremental where full is due", At::welcomed,
     [](auto& to) { to.epoch_begin(1, examples::epoch_begin(EpochKind::incremental)); }},
    {"number too large", At::welcomed, [](auto& to) { to.epoch_begin(2, examples::epoch_begin(EpochKind::full)); }},
    {"number 0", At::welcomed, [](auto& to) { to.epoch_begin(0, examples::epoch_begin(EpochKind::full)); }},
    {"WELCOME from a client", At::welcomed,
     [](auto& to) {
       to.welcome({1, wire::WelcomeMode::full, 1, 0, 0});
     }},
    {"TAKE from a client", At::open, [](auto& to) { to.take(1); }},
    {"DURABLE from a client", At::open, [](auto& to) { to.durable(1); }},
    {"REFUSE from a client", At::open, [](auto& to) { to.refuse({"no"}); }},
    {"an epoch without TAKE", At::open,
     [](auto& to) { to.epoch_begin(2, examples::epoch_begin(EpochKind::incremental)); }},
    {"the same epoch again", At::open, [](auto& to) { to.epoch_begin(1, examples::epoch_begin(EpochKind::full)); }},
    {"end of the open epoch", At::open, [](auto& to) { to.epoch_end(1, examples::epoch_end(0, 0, 0)); }},
    {"data of a later epoch", At::open, [](auto& to) { to.data(2, page_at(ram_number, 0)); }},
    {"data of epoch 0", At::open, [](auto& to) { to.data(0, page_at(ram_number, 0)); }},
    {"unknown object", At::open, [](auto& to) { to.data(1, page_at(3, 0)); }},
    {"object past the table", At::open, [](auto& to) { to.data(1, page_at(1024, 0)); }},
    {"object 2^32 - 1", At::open,
     [](auto& to) {
       to.zero(1, {0xFFFFFFFF, 0, 4096});
     }},
    {"unaligned RAM", At::open, [](auto& to) { to.data(1, page_at(ram_number, 512)); }},
    {"half a page", At::open,
     [](auto& to) {
       to.data(1, {ram_number, 0, pattern(2048, 1)});
     }},
    {"RAM past its end", At::open, [](auto& to) { to.data(1, page_at(ram_number, examples::ram_bytes)); }},
    {"RAM across its end", At::open,
     [](auto& to) {
       to.data(1, {ram_number, examples::ram_bytes - 4096, pattern(8192, 1)});
     }},
    {"RAM near 2^64", At::open, [](auto& to) { to.data(1, page_at(ram_number, ~0ull << 12)); }},
    {"unaligned disk", At::open, [](auto& to) { to.data(1, sector_at(256)); }},
    {"disk past its end", At::open, [](auto& to) { to.data(1, sector_at(examples::disk_bytes)); }},
    {"zero past the end", At::open,
     [](auto& to) {
       to.zero(1, {disk_number, 512, examples::disk_bytes});
     }},
    {"zero that wraps", At::open,
     [](auto& to) {
       to.zero(1, {ram_number, 4096, ~0ull << 12});
     }},
    {"unaligned zero", At::open,
     [](auto& to) {
       to.zero(1, {ram_number, 0, 512});
     }},
    {"device state with a gap", At::open, [](auto& to) { to.data(1, page_at(device_number, 1)); }},
    {"zero device state", At::open,
     [](auto& to) {
       to.zero(1, {device_number, 0, 1});
     }},
    {"state of a foreign epoch", At::open, [](auto& to) { to.state(2, {}); }},
    {"a third epoch", At::closed, [](auto& to) { to.epoch_begin(3, examples::epoch_begin(EpochKind::incremental)); }},
    {"end of the open one beside a closed", At::closed,
     [](auto& to) { to.epoch_end(2, examples::epoch_end(0, 0, 0)); }},
    {"too many DATA announced", At::closed, [](auto& to) { to.epoch_end(1, examples::epoch_end(1, 0, 0)); }},
    {"too many ZERO announced", At::closed, [](auto& to) { to.epoch_end(1, examples::epoch_end(0, 1, 0)); }},
    {"too many bytes announced", At::closed, [](auto& to) { to.epoch_end(1, examples::epoch_end(0, 0, 1)); }},
    {"too little announced", At::closed,
     [](auto& to) {
       to.data(1, page_at(ram_number, 0));
       to.epoch_end(1, examples::epoch_end(0, 0, 0));
     }},
    {"late disk data", At::closed,
     [](auto& to) {
       to.data(2, sector_at(0));
       to.data(1, sector_at(512));
     }},
    {"late disk zeroes", At::closed,
     [](auto& to) {
       to.zero(2, {disk_number, 0, 512});
       to.zero(1, {disk_number, 512, 512});
     }},
    {"data after the end", At::closed,
     [](auto& to) {
       to.epoch_end(1, examples::epoch_end(0, 0, 0));
       to.data(1, page_at(ram_number, 0));
     },
     1},
    {"the end twice", At::closed,
     [](auto& to) {
       to.epoch_end(1, examples::epoch_end(0, 0, 0));
       to.epoch_end(1, examples::epoch_end(0, 0, 0));
     },
     1},
};

class StreamViolationTest : public StreamTest {
protected:
  // The epochs under way have something in them, so that a check by emptiness would not do.
  void bring_to(RawConnection& connection, At at) {
    if (at == At::start) return;
    connection.to.hello(examples::hello());
    ASSERT_TRUE(connection.send().ok());
    if (at == At::welcomed) return;
    connection.to.epoch_begin(1, examples::epoch_begin(EpochKind::full));
    ASSERT_TRUE(connection.send().ok());
    if (at == At::open) return;
    ASSERT_TRUE(connection.receiver().take());
    connection.to.epoch_begin(2, examples::epoch_begin(EpochKind::incremental));
    ASSERT_TRUE(connection.send().ok());
  }
};

TEST_F(StreamViolationTest, EachEndsTheConnectionWithAReason) {
  std::size_t index = 0;
  for (const Violation& violation : violations) {
    SCOPED_TRACE(violation.name);
    std::string machine = "v-" + std::to_string(index++);
    ASSERT_TRUE(store_->add_machine(machine, {}).ok());
    RawConnection connection(*store_, options(machine));
    bring_to(connection, violation.at);
    violation.write(connection.to);
    Status status = connection.send();
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::protocol);
    EXPECT_NE(connection.refusal().find("use the QEMU that was built for this ckptd"), std::string::npos);
    EXPECT_EQ(connection.receiver().open_epoch(), 0u);
    EXPECT_EQ(numbers(machine).size(), violation.durable);
  }
}

TEST_F(StreamViolationTest, NoneOfThemIsAnErrorWhereItBelongs) {
  RawConnection connection(*store_, options());
  bring_to(connection, At::closed);
  connection.to.state(1, {});
  connection.to.state(2, {});
  connection.to.data(1, sector_at(512));
  connection.to.data(2, sector_at(0));
  connection.to.data(1, page_at(ram_number, examples::ram_bytes - 4096));
  connection.to.data(1, {device_number, 0, pattern(1, 1)});
  connection.to.data(1, {device_number, 1, pattern(4096, 1)});
  connection.to.zero(1, {ram_number, 0, examples::ram_bytes - 4096});
  connection.to.zero(2, {disk_number, 0, examples::disk_bytes});
  connection.to.epoch_end(1, examples::epoch_end(4, 1, 512 + 4096 + 4097));
  Status status = connection.send();
  EXPECT_TRUE(status.ok()) << status.error().message();
  EXPECT_EQ(numbers().size(), 1u);
}

TEST_F(StreamViolationTest, DeviceStateEndsAt64MiB) {
  RawConnection connection(*store_, options());
  connection.open();
  Bytes piece(wire::max_data_bytes, 7);
  for (std::uint64_t offset = 0; offset < wire::max_device_state_bytes; offset += piece.size()) {
    connection.to.data(1, {device_number, offset, piece});
    ASSERT_TRUE(connection.send().ok());
  }
  connection.to.data(1, {device_number, wire::max_device_state_bytes, pattern(1, 1)});
  EXPECT_EQ(connection.send().error().code, Code::protocol);
}

TEST_F(StreamViolationTest, ALengthThatLiesIsRefusedAtItsHead) {
  RawConnection connection(*store_, options());
  connection.open();
  Bytes message;
  wire::StreamWriter writer(message);
  writer.data(1, page_at(ram_number, 0));
  store_le<std::uint32_t>(message.data() + 16, 0xFFFFFFFF);
  store_le<std::uint32_t>(message.data() + 20, 2);
  Status status = connection.receiver().feed(ByteView(message).first(wire::header_bytes));
  EXPECT_EQ(status.error().code, Code::protocol);
}

}  // namespace
}  // namespace ckpt
