// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The stream's codec against golden bytes and against bytes that break a rule.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "format/utf8.h"
#include "golden.h"
#include "stream_examples.h"

namespace ckpt {
namespace {

using wire::Type;

std::string file_of(const std::string& example) { return "stream/" + example + ".bin"; }

// Whether the payload of a type is taken.
bool decodes(Type type, ByteView payload) {
  switch (type) {
    case Type::hello:
      return wire::decode_hello(payload).ok();
    case Type::epoch_begin:
      return wire::decode_epoch_begin(payload).ok();
    case Type::data:
      return wire::decode_data(payload).ok();
    case Type::zero:
      return wire::decode_zero(payload).ok();
    case Type::epoch_end:
      return wire::decode_epoch_end(payload).ok();
    case Type::state:
      return wire::decode_state(payload).ok();
    case Type::welcome:
      return wire::decode_welcome(payload).ok();
    case Type::take:
      return wire::decode_take(payload).ok();
    case Type::durable:
      return wire::decode_durable(payload).ok();
    case Type::refuse:
      return wire::decode_refuse(payload).ok();
  }
  return false;
}

Bytes payload_of(const Bytes& message) { return Bytes(message.begin() + wire::header_bytes, message.end()); }

Bytes message_of(const std::function<void(wire::StreamWriter&)>& write) {
  Bytes bytes;
  wire::StreamWriter to(bytes);
  write(to);
  return bytes;
}

Bytes begin_payload(const std::function<void(wire::EpochBegin&)>& change) {
  wire::EpochBegin begin = examples::epoch_begin(wire::EpochKind::full);
  change(begin);
  return payload_of(message_of([&](wire::StreamWriter& to) { to.epoch_begin(1, begin); }));
}

bool begin_decodes(const std::function<void(wire::EpochBegin&)>& change) {
  return wire::decode_epoch_begin(begin_payload(change)).ok();
}

TEST(StreamGolden, FilesAreWhatTheCodecWrites) {
  for (const auto& [name, bytes] : examples::files()) expect_golden(file_of(name), bytes);
}

TEST(StreamGolden, EveryFileHasAnExample) {
  auto files = examples::files();
  for (const auto& entry : std::filesystem::directory_iterator(golden_path("stream")))
    EXPECT_TRUE(files.contains(entry.path().stem().string())) << entry.path();
}

TEST(StreamGolden, EachMessageIsReadBack) {
  std::size_t seen = 0;
  for (const auto& [name, bytes] : examples::files()) {
    if (name == "stream") continue;
    auto header = wire::decode_header(ByteView(bytes).first(wire::header_bytes));
    ASSERT_TRUE(header.ok()) << name << ": " << header.error().message();
    EXPECT_EQ(header->length, bytes.size() - wire::header_bytes) << name;
    EXPECT_TRUE(decodes(header->type, payload_of(bytes))) << name;
    ++seen;
  }
  EXPECT_EQ(seen, 10u);
}

TEST(StreamGolden, FieldsComeBackAsWritten) {
  auto hello = wire::decode_hello(payload_of(read_golden(file_of("hello"))));
  ASSERT_TRUE(hello.ok());
  EXPECT_EQ(hello->instance[1], 0xA1);
  EXPECT_EQ(hello->uuid[15], 15);
  EXPECT_EQ(hello->acked_epoch, 7u);
  EXPECT_EQ(hello->closed_epoch, 8u);
  EXPECT_EQ(hello->machine_type, "pc-q35-10.0");
  EXPECT_EQ(hello->base, "web-1@5");

  auto begin = wire::decode_epoch_begin(payload_of(read_golden(file_of("epoch_begin"))));
  ASSERT_TRUE(begin.ok());
  EXPECT_EQ(begin->kind, wire::EpochKind::incremental);
  ASSERT_EQ(begin->objects.size(), 4u);
  EXPECT_EQ(begin->objects[1].number, examples::rom_number);
  EXPECT_EQ(begin->objects[2].object.name, "disk0");
  EXPECT_EQ(begin->objects[2].object.size_bytes, examples::disk_bytes);

  Bytes data_bytes = payload_of(read_golden(file_of("data")));
  auto data = wire::decode_data(data_bytes);
  ASSERT_TRUE(data.ok());
  EXPECT_EQ(data->offset, 3u * 4096);
  EXPECT_EQ(Bytes(data->bytes.begin(), data->bytes.end()), examples::pattern(4096, 9));

  auto zero = wire::decode_zero(payload_of(read_golden(file_of("zero"))));
  ASSERT_TRUE(zero.ok());
  EXPECT_EQ(zero->object, examples::disk_number);
  EXPECT_EQ(zero->length, 1024u);

  auto end = wire::decode_epoch_end(payload_of(read_golden(file_of("epoch_end"))));
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end->wall_clock_ns, 1'700'000'000'123'456'789u);
  EXPECT_EQ(end->pause_us, 4200u);
  EXPECT_EQ(end->copy_us, 2500u);
  EXPECT_EQ(end->disk_bytes, 512u);

  auto welcome = wire::decode_welcome(payload_of(read_golden(file_of("welcome"))));
  ASSERT_TRUE(welcome.ok());
  EXPECT_EQ(welcome->mode, wire::WelcomeMode::continue_);
  EXPECT_EQ(welcome->next_epoch, 9u);
  EXPECT_EQ(welcome->last_durable, 8u);
}

TEST(StreamCodec, APayloadCutAnywhereOrTooLongIsRefused) {
  for (const auto& [name, bytes] : examples::files()) {
    if (name == "stream") continue;
    Type type = wire::decode_header(ByteView(bytes).first(wire::header_bytes))->type;
    Bytes payload = payload_of(bytes);
    // DATA's bytes may be any number above zero.
    std::size_t least = type == Type::data ? wire::data_head_bytes + 1 : payload.size();
    for (std::size_t length = 0; length < least; ++length)
      EXPECT_FALSE(decodes(type, ByteView(payload).first(length))) << name << " cut to " << length;
    if (type == Type::data) continue;
    payload.push_back(0);
    EXPECT_FALSE(decodes(type, payload)) << name;
  }
}

TEST(StreamCodec, AnyByteChangedIsDecodedOrRefusedAndNothingElse) {
  for (const auto& [name, bytes] : examples::files()) {
    if (name == "stream") continue;
    Type type = wire::decode_header(ByteView(bytes).first(wire::header_bytes))->type;
    Bytes payload = payload_of(bytes);
    for (std::size_t at = 0; at < payload.size(); ++at)
      for (std::uint8_t value : {0x00, 0x01, 0x7F, 0x80, 0xFF}) {
        Bytes changed = payload;
        changed[at] = value;
        (void)decodes(type, changed);
      }
  }
}

TEST(StreamHeader, IsCheckedFieldByField) {
  Bytes good = message_of([](wire::StreamWriter& to) { to.zero(1, {0, 0, 4096}); });
  good.resize(wire::header_bytes);
  EXPECT_TRUE(wire::decode_header(good).ok());
  auto refused = [&](std::size_t at, std::uint64_t value, std::size_t size) {
    Bytes bad = good;
    for (std::size_t i = 0; i < size; ++i) bad[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
    auto header = wire::decode_header(bad);
    return !header.ok() && header.error().code == Code::protocol;
  };
  EXPECT_TRUE(refused(0, 0x53504B44, 4)) << "magic";
  for (std::uint64_t type : {0, 7, 64, 69, 0x101, 0xFFFF}) EXPECT_TRUE(refused(4, type, 2)) << type;
  EXPECT_TRUE(refused(6, 1, 2)) << "reserved";
  EXPECT_TRUE(refused(8, wire::epoch_limit, 8)) << "epoch";
  EXPECT_TRUE(refused(16, 25, 4)) << "length";
  EXPECT_TRUE(refused(16, 0xFFFFFFFF, 4)) << "length";
  EXPECT_FALSE(refused(16, 24, 4));
  EXPECT_FALSE(refused(8, wire::epoch_limit - 1, 8));
  EXPECT_TRUE(refused(4, 1, 2)) << "HELLO with an epoch";
}

TEST(StreamHeader, TheLargestDataIsTakenAndOneByteMoreIsNot) {
  Bytes bytes = message_of([](wire::StreamWriter& to) { to.data(1, {0, 0, Bytes(wire::max_data_bytes, 1)}); });
  EXPECT_TRUE(wire::decode_header(ByteView(bytes).first(wire::header_bytes)).ok());
  EXPECT_TRUE(wire::decode_data(ByteView(bytes).subspan(wire::header_bytes)).ok());
  bytes = message_of([](wire::StreamWriter& to) { to.data(1, {0, 0, Bytes(wire::max_data_bytes + 1, 1)}); });
  EXPECT_FALSE(wire::decode_header(ByteView(bytes).first(wire::header_bytes)).ok());
  EXPECT_FALSE(wire::decode_data(ByteView(bytes).subspan(wire::header_bytes)).ok());
}

TEST(StreamVersion, ANewerPeerIsToldSoWhateverElseItSays) {
  Bytes future = {2, 0, 0, 0, 0xDE, 0xAD};
  EXPECT_EQ(wire::decode_hello(future).error().code, Code::version);
  EXPECT_EQ(wire::decode_welcome(future).error().code, Code::version);
  EXPECT_NE(wire::decode_hello(future).error().message().find("version 2"), std::string::npos);
}

TEST(StreamHello, StringsAndNumbersHaveLimits) {
  auto decodes_with = [](const std::function<void(wire::Hello&)>& change) {
    wire::Hello hello = examples::hello();
    change(hello);
    return wire::decode_hello(payload_of(message_of([&](wire::StreamWriter& to) { to.hello(hello); }))).ok();
  };
  EXPECT_TRUE(decodes_with([](wire::Hello& hello) { hello.qemu_version.assign(255, 'x'); }));
  EXPECT_FALSE(decodes_with([](wire::Hello& hello) { hello.qemu_version.assign(256, 'x'); }));
  EXPECT_FALSE(decodes_with([](wire::Hello& hello) { hello.machine_type = "\x1b[2J"; }));
  EXPECT_FALSE(decodes_with([](wire::Hello& hello) { hello.base = "\xFF@1"; }));
  EXPECT_FALSE(decodes_with([](wire::Hello& hello) { hello.page_size = 16384; }));
  EXPECT_FALSE(decodes_with([](wire::Hello& hello) { hello.acked_epoch = wire::epoch_limit; }));
  EXPECT_FALSE(decodes_with([](wire::Hello& hello) { hello.closed_epoch = ~0ull; }));
}

TEST(StreamEpochBegin, ObjectsAreCheckedOneByOne) {
  using wire::EpochBegin;
  EXPECT_TRUE(begin_decodes([](EpochBegin&) {}));
  EXPECT_TRUE(begin_decodes([](EpochBegin& b) { b.objects[2].object.flags = 1; })) << "read-only disk";
  EXPECT_TRUE(begin_decodes([](EpochBegin& b) { b.objects[2].object.name = "pc.ram"; })) << "same name, other class";
  EXPECT_TRUE(begin_decodes([](EpochBegin& b) { b.objects[0].object.page_size_bytes = 1u << 30; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.kind = static_cast<wire::EpochKind>(3); }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].number = 1024; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].number = b.objects[1].number; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.name = b.objects[1].object.name; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.name = ""; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.name = "a\nb"; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.name = "\xC0\x80"; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.name.assign(256, 'x'); }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.size_bytes = 4097; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.size_bytes = wire::max_object_bytes + 4096; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.page_size_bytes = 0; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.page_size_bytes = 12288; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.flags = 1; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[0].object.object_class = ObjectClass::config; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[2].object.size_bytes = 511; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[2].object.flags = 2; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects[3].object.size_bytes = 1; }));
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) { b.objects.pop_back(); })) << "no device state";
  EXPECT_FALSE(begin_decodes([](EpochBegin& b) {
    b.objects.push_back({9, {ObjectClass::device_state, "more", 0, 0, 0}});
  })) << "two device states";
}

TEST(StreamEpochBegin, ACountThatLiesCostsNothing) {
  for (std::uint32_t count : {5u, 1024u, 1025u, 0xFFFFFFFFu}) {
    Bytes payload = begin_payload([](wire::EpochBegin&) {});
    store_le(payload.data() + 4, count);
    EXPECT_FALSE(wire::decode_epoch_begin(payload).ok()) << count;
  }
}

TEST(StreamEpochBegin, TheLargestTableFitsItsLimit) {
  Bytes payload = begin_payload([](wire::EpochBegin& begin) {
    begin.objects.clear();
    for (std::uint32_t i = 0; i < wire::max_objects; ++i) {
      std::string name = std::to_string(i);
      name.resize(wire::max_string_bytes, '-');
      begin.objects.push_back({i, {i == 0 ? ObjectClass::device_state : ObjectClass::disk, name, 0, 0, 0}});
    }
  });
  EXPECT_EQ(payload.size(), wire::max_payload_bytes(Type::epoch_begin));
  EXPECT_TRUE(wire::decode_epoch_begin(payload).ok());
}

TEST(StreamState, AReasonBecomesOneLine) {
  Bytes payload = payload_of(message_of([](wire::StreamWriter& to) {
    to.state(0, {CaptureState::suspended, 1, "a\nb\x1b"});
  }));
  EXPECT_EQ(wire::decode_state(payload)->reason, "a b ");
  payload = payload_of(message_of([](wire::StreamWriter& to) {
    to.state(0, {CaptureState::suspended, 1, std::string(1025, 'x')});
  }));
  EXPECT_FALSE(wire::decode_state(payload).ok());
}

TEST(Utf8, OnlyWellFormedTextPasses) {
  for (const char* good : {"", "a", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xC3", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                          "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF", "a\xE2\x82", "\xC3("})
    EXPECT_FALSE(is_utf8(bad));
  EXPECT_TRUE(has_control_characters("a\x7F"));
  EXPECT_TRUE(has_control_characters(std::string_view("a\0b", 3)));
  EXPECT_FALSE(has_control_characters("\xC3\xA4 ~"));
}

}  // namespace
}  // namespace ckpt
