// SPDX-License-Identifier: LGPL-2.1-or-later
#include <optional>
#include <utility>

#include "ckpt/stream.h"
#include "format/stream_codec.h"
#include "stream/continuation.h"
#include "stream/message_reader.h"
#include "stream/stream_epoch.h"

namespace ckpt {
namespace {

Error broken(std::string what) { return make_error(Code::protocol, std::move(what)); }

const char* cure(Code code) {
  switch (code) {
    case Code::protocol:
      return "; use the QEMU that was built for this ckptd";
    case Code::no_space:
      return "; free space, or remove checkpoints: older checkpoints are whole, and capture goes on by itself";
    case Code::not_found:
      return "; add the machine to ckptd first";
    default:
      return "";
  }
}

StreamHello describe(const wire::Hello& hello) {
  return {hello.instance,     hello.uuid,         hello.acked_epoch, hello.closed_epoch,
          hello.qemu_version, hello.machine_type, hello.base};
}

EpochFigures describe(const wire::EpochEnd& end, const CheckpointInfo& info) {
  EpochFigures figures;
  figures.number = info.id.number;
  figures.wall_clock_ns = end.wall_clock_ns;
  figures.pause_us = end.pause_us;
  figures.drain_us = end.drain_us;
  figures.device_us = end.device_us;
  figures.dirty_us = end.dirty_us;
  figures.copy_us = end.copy_us;
  figures.ram_pages = end.ram_pages;
  figures.disk_bytes = end.disk_bytes;
  figures.data_bytes = end.data_bytes;
  figures.stored_bytes = info.stored_bytes;
  return figures;
}

class Receiver final : public StreamReceiver {
public:
  Receiver(Store& store, Options options, Events events)
      : store_(store), options_(std::move(options)), events_(std::move(events)), writer_(output_) {}
  ~Receiver() override { abandon(); }

  Status feed(ByteView bytes) override;
  bool take() override;
  std::vector<std::uint8_t>& output() override { return output_; }
  std::size_t missing_bytes() const override { return reader_.missing_bytes(); }
  std::uint64_t open_epoch() const override { return open_ ? open_->number() : 0; }

private:
  Status on_message(const wire::Header& header, ByteView payload);
  Status on_hello(ByteView payload);
  Status on_epoch_begin(std::uint64_t number, ByteView payload);
  Status on_data(std::uint64_t number, ByteView payload);
  Status on_zero(std::uint64_t number, ByteView payload);
  Status on_epoch_end(std::uint64_t number, ByteView payload);
  Status on_state(std::uint64_t number, ByteView payload);

  Result<StreamEpoch*> epoch_for(std::uint64_t number, std::uint32_t object);
  Error fail(Error error);
  void abandon();

  Store& store_;
  const Options options_;
  const Events events_;
  Bytes output_;
  wire::StreamWriter writer_;
  MessageReader reader_;

  std::optional<wire::Hello> hello_;
  CheckpointId parent_;  // of the connection's first epoch
  std::string config_;
  std::uint64_t next_epoch_ = 0;
  std::optional<CaptureState> client_state_;
  bool taking_ = false;  // from TAKE to DURABLE

  // Each builds upon the one before it, which must outlive its commit.
  std::unique_ptr<StreamEpoch> committed_;
  std::unique_ptr<StreamEpoch> closed_;
  Closed guest_;  // at that one's instant
  std::unique_ptr<StreamEpoch> open_;

  std::optional<Error> error_;
};

Status Receiver::feed(ByteView bytes) {
  if (error_) return *error_;
  Status status =
      reader_.feed(bytes, [this](const wire::Header& header, ByteView payload) { return on_message(header, payload); });
  if (!status.ok()) return fail(status.error());
  return {};
}

Error Receiver::fail(Error error) {
  abandon();
  error.context = error.message() + cure(error.code);
  error.sys_errno = 0;
  writer_.refuse({error.context});
  error_ = error;
  return error;
}

void Receiver::abandon() {
  open_.reset();
  closed_.reset();
  committed_.reset();
}

bool Receiver::take() {
  if (error_ || !open_ || taking_ || client_state_ == CaptureState::suspended) return false;
  taking_ = true;
  writer_.take(open_->number());
  return true;
}

Status Receiver::on_message(const wire::Header& header, ByteView payload) {
  if (!hello_ && header.type != wire::Type::hello) return broken("the first message is not HELLO");
  switch (header.type) {
    case wire::Type::hello:
      return on_hello(payload);
    case wire::Type::epoch_begin:
      return on_epoch_begin(header.epoch, payload);
    case wire::Type::data:
      return on_data(header.epoch, payload);
    case wire::Type::zero:
      return on_zero(header.epoch, payload);
    case wire::Type::epoch_end:
      return on_epoch_end(header.epoch, payload);
    case wire::Type::state:
      return on_state(header.epoch, payload);
    default:
      return broken("a message came that only ckptd sends");
  }
}

Status Receiver::on_hello(ByteView payload) {
  if (hello_) return broken("a second HELLO on one connection");
  CKPT_ASSIGN(wire::Hello hello, wire::decode_hello(payload));
  StreamHello described = describe(hello);
  if (events_.hello) CKPT_TRY(events_.hello(described));
  Terms terms;
  if (events_.terms) terms = events_.terms(described);
  CKPT_ASSIGN(Continuation decision,
              decide_continuation(store_, options_.machine, hello, terms.base, terms.start_anew));
  hello_ = std::move(hello);
  parent_ = decision.parent;
  config_ = terms.config.value_or(options_.config);
  next_epoch_ = decision.next_epoch;
  wire::Welcome welcome;
  welcome.mode = decision.mode;
  welcome.next_epoch = decision.next_epoch;
  welcome.last_durable = decision.last_durable;
  welcome.interval_ms = options_.interval_ms;
  writer_.welcome(welcome);
  return {};
}

Status Receiver::on_epoch_begin(std::uint64_t number, ByteView payload) {
  if (number != next_epoch_)
    return broken("epoch " + std::to_string(number) + " opens where " + std::to_string(next_epoch_) + " was due");
  if (closed_) return broken("epoch " + std::to_string(number) + " opens beside two others");
  if (open_ && !taking_)
    return broken("epoch " + std::to_string(number) + " opens without a TAKE for the one before it");
  CKPT_ASSIGN(wire::EpochBegin begin, wire::decode_epoch_begin(payload));
  EpochBase base;
  if (begin.kind == wire::EpochKind::incremental) {
    if (open_)
      base.closed = &open_->writer();
    else if (parent_.number != 0)
      base.parent = parent_;
    else
      return broken("an incremental epoch came where WELCOME asked for a full one");
  }
  CKPT_ASSIGN(auto epoch, StreamEpoch::begin(store_, options_.machine, number, base, begin, config_));
  closed_ = std::move(open_);
  open_ = std::move(epoch);
  guest_ = closed_ && events_.closed ? events_.closed(closed_->number()) : Closed();
  ++next_epoch_;
  return {};
}

Result<StreamEpoch*> Receiver::epoch_for(std::uint64_t number, std::uint32_t object) {
  if (open_ && open_->number() == number) return open_.get();
  if (!closed_ || closed_->number() != number) return broken("epoch " + std::to_string(number) + " is not under way");
  // A sector of the open epoch is completed from what the disk was when the closed one ended.
  if (closed_->is_disk(object) && open_->has_disk_data())
    return broken("disk data of epoch " + std::to_string(number) + " came after disk data of the next");
  return closed_.get();
}

Status Receiver::on_data(std::uint64_t number, ByteView payload) {
  CKPT_ASSIGN(wire::Data data, wire::decode_data(payload));
  CKPT_ASSIGN(StreamEpoch * epoch, epoch_for(number, data.object));
  return epoch->data(data);
}

Status Receiver::on_zero(std::uint64_t number, ByteView payload) {
  CKPT_ASSIGN(wire::Zero zero, wire::decode_zero(payload));
  CKPT_ASSIGN(StreamEpoch * epoch, epoch_for(number, zero.object));
  return epoch->zero(zero);
}

Status Receiver::on_epoch_end(std::uint64_t number, ByteView payload) {
  CKPT_ASSIGN(wire::EpochEnd end, wire::decode_epoch_end(payload));
  if (open_ && open_->number() == number) return broken("an epoch ends before the next one opened");
  if (!closed_ || closed_->number() != number)
    return broken("epoch " + std::to_string(number) + " ends and is not under way");
  CKPT_TRY(closed_->check_counts(end));
  EpochInfo info;
  info.wall_clock_ns = end.wall_clock_ns;
  info.vm_clock_ns = end.vm_clock_ns;
  info.run_state = end.run_state;
  info.pause_us = end.pause_us;
  info.instance = hello_->instance;
  info.application_consistent = guest_.application_consistent;
  info.frozen = guest_.frozen;
  info.qemu_version = hello_->qemu_version;
  info.machine_type = hello_->machine_type;
  CKPT_ASSIGN(CheckpointInfo checkpoint, closed_->writer().commit(info));
  committed_ = std::move(closed_);
  taking_ = false;
  writer_.durable(number);
  if (events_.committed) events_.committed(checkpoint, describe(end, checkpoint));
  return {};
}

Status Receiver::on_state(std::uint64_t number, ByteView payload) {
  CKPT_ASSIGN(wire::State state, wire::decode_state(payload));
  bool known = number == 0 || (open_ && open_->number() == number) || (closed_ && closed_->number() == number);
  if (!known) return broken("STATE names epoch " + std::to_string(number) + ", which is not under way");
  client_state_ = state.state;
  if (events_.state) events_.state(state.state, state.remaining_bytes, state.reason);
  return {};
}

}  // namespace

std::unique_ptr<StreamReceiver> StreamReceiver::create(Store& store, Options options, Events events) {
  return std::make_unique<Receiver>(store, std::move(options), std::move(events));
}

}  // namespace ckpt
