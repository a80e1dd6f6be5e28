// SPDX-License-Identifier: LGPL-2.1-or-later
//
// One example of each message, and a whole short stream: what tests/golden/stream/ holds, as code.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "format/stream_codec.h"

namespace ckpt::examples {

inline constexpr std::uint32_t ram_number = 0;
inline constexpr std::uint32_t rom_number = 7;
inline constexpr std::uint32_t disk_number = 1;
inline constexpr std::uint32_t device_number = 2;
inline constexpr std::uint64_t ram_bytes = 16 * 4096;
inline constexpr std::uint64_t disk_bytes = 8 * 4096 + 512;

inline Bytes pattern(std::size_t length, std::uint8_t seed) {
  Bytes bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::uint8_t>(seed + i * 7 + i / 256);
  return bytes;
}

inline wire::Hello hello() {
  wire::Hello hello;
  for (std::size_t i = 0; i < 16; ++i) hello.instance[i] = static_cast<std::uint8_t>(0xA0 + i);
  for (std::size_t i = 0; i < 16; ++i) hello.uuid[i] = static_cast<std::uint8_t>(i);
  hello.qemu_version = "10.0.13";
  hello.machine_type = "pc-q35-10.0";
  return hello;
}

inline wire::EpochBegin epoch_begin(wire::EpochKind kind) {
  return {kind,
          {{ram_number, {ObjectClass::ram, "pc.ram", ram_bytes, 4096, 0}},
           {rom_number, {ObjectClass::ram, "pc.rom", 4096, 4096, 0}},
           {disk_number, {ObjectClass::disk, "disk0", disk_bytes, 0, 0}},
           {device_number, {ObjectClass::device_state, "device-state", 0, 0, 0}}}};
}

inline wire::EpochEnd epoch_end(std::uint64_t data_count, std::uint64_t zero_count, std::uint64_t data_bytes) {
  wire::EpochEnd end;
  end.data_count = data_count;
  end.zero_count = zero_count;
  end.data_bytes = data_bytes;
  end.wall_clock_ns = 1'700'000'000'123'456'789;
  end.vm_clock_ns = 42'000'000'000;
  end.run_state = RunState::running;
  end.pause_us = 4200;
  end.drain_us = 300;
  end.device_us = 900;
  end.dirty_us = 250;
  end.copy_us = 2500;
  end.ram_pages = 3;
  end.disk_bytes = 512;
  return end;
}

// HELLO, then epoch 1 in full, epoch 2 incremental and closed by TAKE, epoch 3 open when the stream ends. One entry a
// message, so that a test can answer between them.
inline std::vector<Bytes> short_stream() {
  std::vector<Bytes> messages;
  Bytes buffer;
  wire::StreamWriter to(buffer);
  auto next = [&] {
    messages.push_back(buffer);
    buffer.clear();
  };
  Bytes page = pattern(4096, 1), sector = pattern(512, 2), device = pattern(1000, 3), other = pattern(8192, 4);
  to.hello(hello()), next();
  to.state(0, {CaptureState::copying, 20 * 4096, ""}), next();
  to.epoch_begin(1, epoch_begin(wire::EpochKind::full)), next();
  to.data(1, {ram_number, 4096, page}), next();
  to.data(1, {disk_number, 512, sector}), next();
  to.zero(1, {ram_number, 8192, 8192}), next();
  to.state(1, {CaptureState::capturing, 0, ""}), next();
  to.epoch_begin(2, epoch_begin(wire::EpochKind::incremental)), next();
  to.data(1, {device_number, 0, device}), next();
  to.data(2, {ram_number, 0, other}), next();
  to.data(1, {rom_number, 0, page}), next();
  to.epoch_end(1, epoch_end(4, 1, 4096 + 512 + 1000 + 4096)), next();
  to.data(2, {disk_number, 1024, sector}), next();
  to.zero(2, {disk_number, 0, 1024}), next();
  to.epoch_begin(3, epoch_begin(wire::EpochKind::incremental)), next();
  to.data(2, {device_number, 0, device}), next();
  to.epoch_end(2, epoch_end(3, 1, 8192 + 512 + 1000)), next();
  return messages;
}

inline std::map<std::string, Bytes> files() {
  std::map<std::string, Bytes> all;
  auto add = [&](const std::string& name, auto&& write) {
    wire::StreamWriter to(all[name]);
    write(to);
  };
  Bytes page = pattern(4096, 9);
  add("hello", [](auto& to) {
    wire::Hello example = hello();
    example.acked_epoch = 7;
    example.closed_epoch = 8;
    example.base = "web-1@5";
    to.hello(example);
  });
  add("epoch_begin", [](auto& to) { to.epoch_begin(9, epoch_begin(wire::EpochKind::incremental)); });
  add("data", [&](auto& to) { to.data(9, {ram_number, 3 * 4096, page}); });
  add("zero", [](auto& to) { to.zero(9, {disk_number, 512, 1024}); });
  add("epoch_end", [](auto& to) { to.epoch_end(9, epoch_end(1, 1, 4096)); });
  add("state", [](auto& to) { to.state(9, {CaptureState::suspended, 12345, "block job on disk0; wait for its end"}); });
  add("welcome", [](auto& to) { to.welcome({wire::stream_version, wire::WelcomeMode::continue_, 9, 8, 1000}); });
  add("take", [](auto& to) { to.take(9); });
  add("durable", [](auto& to) { to.durable(9); });
  add("refuse", [](auto& to) { to.refuse({"another client has this machine; stop it first"}); });
  for (const Bytes& message : short_stream()) all["stream"].insert(all["stream"].end(), message.begin(), message.end());
  return all;
}

}  // namespace ckpt::examples
