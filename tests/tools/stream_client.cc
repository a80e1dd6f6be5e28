// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream_client.h"

#include <algorithm>
#include <chrono>

namespace ckpt::tools {
namespace {

constexpr std::size_t copy_units_a_step = 256;
constexpr std::size_t device_piece_bytes = 32 << 10;
constexpr std::uint32_t device_number = MachineModel::count;

std::uint64_t real_clock_ns() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

}  // namespace

StreamClient::StreamClient(MachineModel& model, const ClientOptions& options, Events events)
    : model_(model),
      options_(options),
      events_(std::move(events)),
      random_(options.instance[0] + 256u * options.uuid[0] + 1) {
  for (std::size_t i = 0; i < MachineModel::count; ++i) flags_[i].resize(model_.object(i).units());
}

void StreamClient::connect() {
  for (auto& flags : flags_)
    for (std::uint8_t& flag : flags)
      if ((flag & in_open) != 0) flag = (flag & in_closed) | dirty;
  copying_ = closing_ = take_waits_ = false;
  captured_.clear();
  open_epoch_ = 0;
  output_.clear();
  reader_ = MessageReader();
  writer_.emplace(output_);
  wire::Hello hello;
  hello.instance = options_.instance;
  hello.uuid = options_.uuid;
  hello.acked_epoch = acked_epoch_;
  hello.closed_epoch = closed_epoch_;
  hello.qemu_version = "stream_gen";
  hello.machine_type = "model";
  hello.base = options_.base;
  writer_->hello(hello);
}

Status StreamClient::feed(ByteView bytes) {
  return reader_.feed(bytes,
                      [this](const wire::Header& header, ByteView payload) { return on_message(header, payload); });
}

Status StreamClient::on_message(const wire::Header& header, ByteView payload) {
  switch (header.type) {
    case wire::Type::welcome:
      return on_welcome(payload);
    case wire::Type::take:
      return on_take(header.epoch);
    case wire::Type::durable:
      return on_durable(header.epoch);
    case wire::Type::refuse: {
      CKPT_ASSIGN(wire::Refuse refuse, wire::decode_refuse(payload));
      return make_error(Code::refused, refuse.reason);
    }
    default:
      return make_error(Code::protocol, "the server sent what only a client sends");
  }
}

Status StreamClient::on_welcome(ByteView payload) {
  CKPT_ASSIGN(wire::Welcome welcome, wire::decode_welcome(payload));
  if (open_epoch_ != 0) return make_error(Code::protocol, "a second WELCOME");
  full_ = welcome.mode == wire::WelcomeMode::full;
  bool closed_is_safe = !full_ && closed_epoch_ != 0 && welcome.last_durable == closed_epoch_;
  if (closed_is_safe) acked_epoch_ = closed_epoch_;
  closed_epoch_ = 0;
  for (auto& flags : flags_)
    for (std::uint8_t& flag : flags)
      if ((flag & in_closed) != 0) flag = closed_is_safe ? flag & dirty : dirty;
  if (events_.welcome) events_.welcome(welcome);
  begin_epoch(welcome.next_epoch, full_ ? wire::EpochKind::full : wire::EpochKind::incremental);
  copying_ = true;
  copy_object_ = copy_unit_ = 0;
  writer_->state(0, {CaptureState::copying, model_.object(MachineModel::ram).object().size_bytes, ""});
  return {};
}

void StreamClient::begin_epoch(std::uint64_t number, wire::EpochKind kind) {
  wire::EpochBegin begin;
  begin.kind = kind;
  for (std::uint32_t i = 0; i < MachineModel::count; ++i) begin.objects.push_back({i, model_.object(i).object()});
  begin.objects.push_back({device_number, {ObjectClass::device_state, "device-state", 0, 0, 0}});
  writer_->epoch_begin(number, begin);
  open_epoch_ = number;
  open_counts_ = {};
}

// The first epoch of a connection: all of it when full, else the disk's outstanding places (RAM's stay dirty for the
// pause).
void StreamClient::copy_step() {
  if (copy_object_ == MachineModel::count) {
    copying_ = false;
    writer_->state(open_epoch_, {CaptureState::capturing, 0, ""});
    if (take_waits_) close_epoch();
    return;
  }
  const ModelObject& object = model_.object(copy_object_);
  auto& flags = flags_[copy_object_];
  std::uint64_t end = std::min(copy_unit_ + copy_units_a_step, object.units());
  for (; copy_unit_ < end; ++copy_unit_) {
    bool outstanding = copy_object_ == MachineModel::disk && (flags[copy_unit_] & dirty) != 0;
    std::uint32_t version = object.version(copy_unit_);
    bool has_bytes = full_ && !object.is_zero(copy_unit_, version);
    if (has_bytes || (!full_ && outstanding)) send_unit(open_epoch_, open_counts_, copy_object_, copy_unit_, version);
    if (full_ || outstanding) flags[copy_unit_] = in_open;
  }
  if (copy_unit_ == object.units()) ++copy_object_, copy_unit_ = 0;
}

void StreamClient::run_guest(std::uint64_t pages, std::uint64_t writes) {
  ModelObject& disk = model_.object(MachineModel::disk);
  for (std::uint64_t i = 0; i < writes && disk.units() != 0; ++i) {
    std::uint64_t unit = random_.below(disk.units());
    disk.change(unit);
    send_unit(open_epoch_, open_counts_, MachineModel::disk, unit, disk.version(unit));
    flags_[MachineModel::disk][unit] |= in_open;
  }
  ModelObject& ram = model_.object(MachineModel::ram);
  for (std::uint64_t i = 0; i < pages && ram.units() != 0; ++i) {
    // A part of memory is written again and again, as in real guests.
    std::uint64_t unit = random_.below(random_.below(2) == 0 ? ram.units() : ram.units() / 64 + 1);
    std::uint8_t& flag = flags_[MachineModel::ram][unit];
    ram.change(unit);
    flag |= dirty;
    if (random_.below(4) != 0) continue;
    // Copied ahead of the pause; dirty again if the guest comes back to it.
    send_unit(open_epoch_, open_counts_, MachineModel::ram, unit, ram.version(unit));
    flag = static_cast<std::uint8_t>((flag & ~dirty) | in_open);
  }
}

Status StreamClient::on_take(std::uint64_t epoch) {
  if (epoch < open_epoch_) return {};
  bool too_early = epoch > open_epoch_ || open_epoch_ == 0 || closed_epoch_ != 0;
  if (too_early || take_waits_) return make_error(Code::protocol, "TAKE at the wrong time");
  if (copying_)
    take_waits_ = true;
  else
    close_epoch();
  return {};
}

void StreamClient::close_epoch() {
  take_waits_ = false;
  run_guest(options_.dirty_pages / 2, options_.disk_writes / 2);
  // The pause.
  captured_.clear();
  captured_sent_ = 0;
  const ModelObject& ram = model_.object(MachineModel::ram);
  for (std::uint64_t unit = 0; unit < ram.units(); ++unit)
    if ((flags_[MachineModel::ram][unit] & dirty) != 0) captured_.push_back({unit, ram.version(unit)});
  for (auto& flags : flags_)
    for (std::uint8_t& flag : flags)
      if (flag != 0) flag = in_closed;
  closed_epoch_ = open_epoch_;
  device_state_ = model_.device_state(closed_epoch_);
  closed_counts_ = open_counts_;
  closing_ = true;
  if (events_.closed) events_.closed(closed_epoch_, model_.digest(device_state_));
  begin_epoch(closed_epoch_ + 1, wire::EpochKind::incremental);
}

void StreamClient::close_step() {
  std::size_t half = captured_.size() / 2;
  std::size_t end = std::min(captured_sent_ + copy_units_a_step, captured_sent_ < half ? half : captured_.size());
  for (; captured_sent_ < end; ++captured_sent_) {
    const Captured& place = captured_[captured_sent_];
    send_unit(closed_epoch_, closed_counts_, MachineModel::ram, place.unit, place.version);
  }
  if (captured_sent_ == half)
    run_guest(options_.dirty_pages - options_.dirty_pages / 2, options_.disk_writes - options_.disk_writes / 2);
  if (captured_sent_ == captured_.size()) end_closed();
}

void StreamClient::end_closed() {
  for (std::size_t at = 0; at < device_state_.size(); at += device_piece_bytes) {
    std::size_t length = std::min(device_piece_bytes, device_state_.size() - at);
    send_data(closed_epoch_, closed_counts_, {device_number, at, ByteView(device_state_).subspan(at, length)});
  }
  wire::EpochEnd end;
  end.data_count = closed_counts_.data_count;
  end.zero_count = closed_counts_.zero_count;
  end.data_bytes = closed_counts_.data_bytes;
  end.wall_clock_ns = options_.real_clock ? real_clock_ns() : 1'700'000'000'000'000'000 + closed_epoch_ * 1'000'000'000;
  end.vm_clock_ns = closed_epoch_ * 1'000'000'000;
  end.pause_us = 1000;
  end.ram_pages = captured_.size();
  end.disk_bytes = options_.disk_writes * 512;
  writer_->epoch_end(closed_epoch_, end);
  closing_ = false;
}

Status StreamClient::on_durable(std::uint64_t epoch) {
  if (epoch != closed_epoch_ || closing_) return make_error(Code::protocol, "DURABLE for an epoch that was not sent");
  acked_epoch_ = epoch;
  closed_epoch_ = 0;
  for (auto& flags : flags_)
    for (std::uint8_t& flag : flags) flag &= static_cast<std::uint8_t>(~in_closed);
  if (events_.durable) events_.durable(epoch);
  return {};
}

void StreamClient::pump(std::size_t limit) {
  while (output_.size() < limit && (copying_ || closing_)) copying_ ? copy_step() : close_step();
}

void StreamClient::send_unit(std::uint64_t epoch, Counts& counts, std::size_t object, std::uint64_t unit,
                             std::uint32_t version) {
  const ModelObject& from = model_.object(object);
  auto number = static_cast<std::uint32_t>(object);
  std::uint64_t size = from.unit_bytes();
  if (from.is_zero(unit, version)) {
    writer_->zero(epoch, {number, unit * size, size});
    ++counts.zero_count;
    return;
  }
  std::array<std::uint8_t, 4096> content;
  from.fill(unit, version, std::span(content).first(size));
  send_data(epoch, counts, {number, unit * size, ByteView(content).first(size)});
}

void StreamClient::send_data(std::uint64_t epoch, Counts& counts, const wire::Data& data) {
  writer_->data(epoch, data);
  ++counts.data_count;
  counts.data_bytes += data.bytes.size();
}

}  // namespace ckpt::tools
