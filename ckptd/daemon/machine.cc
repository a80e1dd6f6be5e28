// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/machine.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/clock.h"
#include "common/process.h"
#include "common/text.h"
#include "daemon/checkpoint_config.h"
#include "daemon/log.h"
#include "daemon/restored_base.h"
#include "os/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t connection_limit = 8;
constexpr std::int64_t full_retry_ms = 2'000;
constexpr std::uint64_t full_headroom_bytes = 64ull << 20;
constexpr std::size_t receive_bytes = 1 << 20;

bool zero(const std::array<std::uint8_t, 16>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

Machine::Machine(ckpt::Store& store, const RunDir& run_dir, std::string name, Door door, Json config, Policy policy,
                 std::int64_t stall_limit_ms, Hooks hooks)
    : store_(store),
      run_dir_(run_dir),
      name_(std::move(name)),
      door_(std::move(door)),
      stall_limit_ms_(stall_limit_ms),
      hooks_(std::move(hooks)),
      config_(std::move(config)),
      policy_(std::move(policy)) {}

Machine::~Machine() { stop(); }

void Machine::stop() {
  if (stopping_.exchange(true)) return;
  wake();
  if (thread_.joinable()) thread_.join();
  if (listener_) ::unlink(door_.path.c_str());
}

ckpt::Status Machine::start() {
  CKPT_ASSIGN(listener_, os::listen_unix(door_.path, os::Listener::keeps, door_.user));
  wake_ = os::Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return ckpt::system_error(errno, "eventfd");
  damaged_ = store_.stats().damaged;
  if (damaged_)
    set_state("store damaged",
              "the store's journal is damaged: checkpoints can be read and restored, nothing is written");
  thread_ = std::thread([this] { run(); });
  return {};
}

void Machine::wake() {
  std::uint64_t one = 1;
  if (wake_) (void)!::write(wake_.get(), &one, sizeof(one));
}

void Machine::run() {
  std::vector<pollfd> entries;
  while (!stopping_) {
    bool accepting = full_until_ms_ == 0 && connections_.size() < connection_limit && !damaged_;
    entries.assign({{wake_.get(), POLLIN, 0}, {accepting ? listener_.get() : -1, POLLIN, 0}});
    for (auto& connection : connections_) {
      bool sending = !connection.receiver->output().empty();
      entries.push_back({connection.fd.get(), static_cast<short>(POLLIN | (sending ? POLLOUT : 0)), 0});
    }
    if (::poll(entries.data(), entries.size(), wait_ms()) < 0 && errno != EINTR) break;
    if (entries[0].revents) {
      std::uint64_t count;
      (void)!::read(wake_.get(), &count, sizeof(count));
    }
    if (std::uint64_t order = anew_order_; active_ && order != 0 && active_->anew_order != order)
      end(*active_, make_error(Code::corrupt, "what it builds upon is damaged: everything is copied anew"));
    if (active_ && has_old_config(*active_))
      end(*active_, make_error(Code::unavailable, "its configuration has changed: QEMU comes again"));
    std::size_t index = 2;
    for (auto& connection : connections_) {
      bool readable = entries[index++].revents & (POLLIN | POLLHUP | POLLERR);
      // What has come of one that was ended just now may be the end of an epoch.
      if (connection.over) continue;
      if (readable) receive(connection);
      check_stall(connection);
    }
    // A connection that ends has been noticed before another one is let in.
    if (entries[1].revents) accept_one();
    pace();
    for (auto& connection : connections_) send_output(connection);
    if (active_ && active_->over) active_ = nullptr;
    connections_.remove_if([](const Connection& connection) { return connection.over; });
    if (full_until_ms_ != 0) retry_full();
  }
  connections_.clear();
  active_ = nullptr;
  fail_requests(make_error(Code::unavailable, "ckptd is stopping"));
}

int Machine::wait_ms() const {
  std::int64_t now_ms = monotonic_ms(), until_ms = now_ms + 1000;
  // When a take is due and not possible, the next message decides; asking again and again would not help.
  if (active_ && next_take_ms_ > now_ms) until_ms = std::min(until_ms, next_take_ms_);
  if (full_until_ms_ != 0) until_ms = std::min(until_ms, std::max(now_ms, full_until_ms_));
  return static_cast<int>(until_ms - now_ms);
}

void Machine::accept_one() {
  auto fd = os::accept_unix(listener_, door_.user);
  if (!fd.ok()) return;
  auto& connection = connections_.emplace_back();
  connection.fd = fd.take();
  connection.alive_ms = monotonic_ms();
  ckpt::StreamReceiver::Options options;
  options.machine = name_;
  {
    std::lock_guard lock(mutex_);
    options.interval_ms = policy_.interval_ms;
  }
  ckpt::StreamReceiver::Events events;
  events.hello = [this, &connection](const ckpt::StreamHello& hello) { return on_hello(connection, hello); };
  events.terms = [this, &connection](const ckpt::StreamHello& hello) { return on_terms(connection, hello); };
  events.closed = [this](std::uint64_t epoch) { return on_closed(epoch); };
  events.committed = [this](const ckpt::CheckpointInfo& info, const ckpt::EpochFigures& figures) {
    on_committed(info, figures);
  };
  events.state = [this](ckpt::CaptureState state, std::uint64_t remaining, const std::string& reason) {
    on_state(state, remaining, reason);
  };
  connection.receiver = ckpt::StreamReceiver::create(store_, std::move(options), std::move(events));
}

ckpt::Status Machine::on_hello(Connection& connection, const ckpt::StreamHello& hello) {
  if (active_)
    return make_error(Code::refused, "a machine named '" + name_ +
                                         "' is connected already: give this one a name of its own, or stop the other");
  auto machines = store_.machines();
  auto known =
      std::find_if(machines.begin(), machines.end(), [&](const ckpt::MachineInfo& info) { return info.name == name_; });
  if (known == machines.end()) {
    CKPT_TRY(store_.add_machine(name_, hello.uuid));
  } else if (known->uuid != hello.uuid && !zero(known->uuid) && !zero(hello.uuid)) {
    return make_error(Code::refused, "'" + name_ + "' is in the store with UUID " + uuid_text(known->uuid) +
                                         ", this machine has " + uuid_text(hello.uuid) +
                                         ": give it another name, or 'ckptctl forget " + name_ + "' first");
  }
  remember_process(connection);
  active_ = &connection;
  connection.greeted = true;
  next_take_ms_ = monotonic_ms();
  {
    std::lock_guard lock(mutex_);
    status_.connected = true;
    status_.qemu_version = hello.qemu_version;
    status_.machine_type = hello.machine_type;
    status_.base.clear();
  }
  base_refused_.clear();
  set_state("copying", "");
  log_line(name_ + ": connected, QEMU " + hello.qemu_version + ", " + hello.machine_type);
  return {};
}

// A machine lives also while it is not connected: nothing may be restored under its name then.
void Machine::remember_process(const Connection& connection) {
  ProcessId peer = process_id(os::peer_pid(connection.fd));
  const std::string path = run_dir_.pid_file(name_);
  // In another PID namespace it has no number here. What is there is not written again: RUN_DIR may be full.
  if (!peer.identified()) return;
  if (auto written = read_pid_file(path); written.ok() && *written == peer) return;
  if (auto written = write_pid_file(path, peer); !written.ok()) log_line(name_ + ": " + written.error().message());
}

ckpt::StreamReceiver::Terms Machine::on_terms(Connection& connection, const ckpt::StreamHello& hello) {
  connection.anew_order = anew_order_;
  ckpt::CheckpointId base = on_base(hello);
  connection.config = dump(config_for(base));
  return {.base = base, .start_anew = connection.anew_order != 0, .config = connection.config};
}

// A restored machine is what its checkpoint was of, from its first epoch on; the name may have been another's until
// now. What a domain is its XML says, which was known before its QEMU was there: it may be a clone.
Json Machine::config_for(const ckpt::CheckpointId& base) {
  Json config;
  {
    std::lock_guard lock(mutex_);
    config = config_;
    config_changed_ = false;
  }
  if (base.number != 0 && !config.contains("domain")) {
    auto reader = store_.open_checkpoint(base);
    auto own = reader.ok() ? read_config(**reader) : ckpt::Result<Json>(reader.error());
    if (own.ok()) return own.take();
    log_line(name_ + ": the configuration of " + ckpt::to_string(base) + ": " + own.error().message());
  }
  return config;
}

bool Machine::has_old_config(const Connection& connection) {
  std::lock_guard lock(mutex_);
  return std::exchange(config_changed_, false) && connection.config != dump(config_);
}

ckpt::CheckpointId Machine::on_base(const ckpt::StreamHello& hello) {
  if (hello.base.empty()) return {};
  auto base = claim_base(run_dir_, store_, name_, hello);
  if (!base.ok()) {
    base_refused_ =
        "everything is copied: QEMU says it was restored from " + hello.base + ", but " + base.error().message();
    set_state("copying", base_refused_);
    log_line(name_ + ": " + base_refused_);
    return {};
  }
  std::lock_guard lock(mutex_);
  status_.base = ckpt::to_string(*base);
  log_line(name_ + ": restored from " + status_.base);
  return *base;
}

void Machine::on_state(ckpt::CaptureState state, std::uint64_t remaining_bytes, const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    status_.remaining_bytes = remaining_bytes;
  }
  switch (state) {
    case ckpt::CaptureState::copying:
      set_state("copying", reason.empty() ? base_refused_ : reason);
      break;
    case ckpt::CaptureState::capturing:
      set_state("capturing", reason);
      break;
    case ckpt::CaptureState::suspended:
      set_state("suspended", reason);
      log_line(name_ + ": capture is suspended: " + reason);
      fail_requests(make_error(Code::unavailable, "capture of '" + name_ + "' is suspended: " + reason));
      break;
  }
}

void Machine::receive(Connection& connection) {
  static thread_local std::vector<std::uint8_t> buffer(receive_bytes);
  ssize_t got = ::recv(connection.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    end(connection, make_error(Code::unavailable, "QEMU has closed the connection"));
    return;
  }
  auto status = connection.receiver->feed({buffer.data(), static_cast<std::size_t>(got)});
  // After feed(): a commit in it takes its time, which is not the peer's.
  if (connection.greeted) connection.alive_ms = monotonic_ms();
  if (!status.ok()) end(connection, status.error());
}

void Machine::send_output(Connection& connection) {
  auto& output = connection.receiver->output();
  if (output.empty()) return;
  ssize_t put = ::send(connection.fd.get(), output.data(), output.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (put > 0)
    output.erase(output.begin(), output.begin() + put);
  else if (errno != EAGAIN && errno != EINTR)
    end(connection, make_error(Code::unavailable, "QEMU has closed the connection"));
}

void Machine::check_stall(Connection& connection) {
  bool within =
      connection.receiver->missing_bytes() > 0 || !connection.greeted || !connection.receiver->output().empty();
  if (connection.over || !within || monotonic_ms() - connection.alive_ms < stall_limit_ms_) return;
  end(connection,
      make_error(Code::protocol,
                 "the client has stalled for " + format_duration_ms(static_cast<std::uint64_t>(stall_limit_ms_)) +
                     (connection.greeted ? " inside a message" : " before its HELLO") + ": the connection is cut"));
}

void Machine::pace() {
  if (!active_ || active_->over) return;
  std::int64_t now_ms = monotonic_ms();
  std::lock_guard lock(mutex_);
  bool wanted = std::any_of(requests_.begin(), requests_.end(),
                            [](const Request* request) { return request->epoch == 0 && !request->done; });
  next_take_ms_ = std::min(next_take_ms_, now_ms + policy_.interval_ms);
  if (now_ms < next_take_ms_ && !wanted) return;
  std::uint64_t epoch = active_->receiver->open_epoch();
  const std::uint64_t freezes = hooks_.freezes();
  if (!active_->receiver->take()) return;
  freezes_at_take_ = freezes;
  for (auto* request : requests_)
    if (request->epoch == 0) request->epoch = epoch;
  // The rhythm is kept when the last epoch was in time; when it was late, the interval has stretched and starts anew.
  next_take_ms_ =
      std::max(next_take_ms_ + policy_.interval_ms, now_ms + std::min<std::int64_t>(policy_.interval_ms, 25));
}

void Machine::end(Connection& connection, const ckpt::Error& error) {
  if (connection.over) return;
  // First: when the last words cannot be sent either, send_output() would come back here, again and again.
  connection.over = true;
  send_output(connection);
  bool was_active = &connection == active_;
  if (!was_active) {
    log_line(name_ + ": a connection was refused: " + error.message());
    // Nobody else is there: this is why the machine waits.
    if (!active_ && error.code == Code::refused) set_state("waiting", error.message());
    if (error.code != Code::no_space && error.code != Code::io) return;
  } else {
    active_ = nullptr;
    log_line(name_ + ": disconnected: " + error.message());
    std::lock_guard lock(mutex_);
    status_.connected = false;
    if (error.code != Code::unavailable) ++status_.failures;
  }
  fail_requests(make_error(Code::unavailable, "the connection of '" + name_ +
                                                  "' ended before the checkpoint was durable: " + error.message()));
  set_state("waiting", error.code == Code::unavailable ? "" : error.message());
  // Continuing on what cannot be read would fail again and again, while QEMU still has all of it.
  if (error.code == Code::corrupt && anew_order_ == 0) hooks_.damaged();
  if (error.code == Code::no_space) enter_full(error);
  if (error.code == Code::io) hooks_.store_failed(error.message());
}

void Machine::enter_full(const ckpt::Error& error) {
  full_until_ms_ = monotonic_ms() + full_retry_ms;
  full_free_bytes_ = store_.stats().free_bytes;
  set_state("store full",
            "the store's disk is full: older checkpoints are whole; free space or remove checkpoints, capture resumes "
            "alone (" +
                error.message() + ")");
  log_line(name_ + ": the store is full, capture has stopped");
  hooks_.store_full();
}

void Machine::retry_full() {
  if (monotonic_ms() < full_until_ms_) return;
  std::uint64_t free_bytes = store_.stats().free_bytes;
  if (free_bytes < full_free_bytes_ + full_headroom_bytes && free_bytes < 4 * full_headroom_bytes) {
    full_until_ms_ = monotonic_ms() + full_retry_ms;
    hooks_.store_full();
    return;
  }
  full_until_ms_ = 0;
  log_line(name_ + ": the store has room again (" + format_size(free_bytes) + "), capture may resume");
  set_state("waiting", "");
}

void Machine::set_state(const std::string& state, const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (status_.state != state && state == "capturing") log_line(name_ + ": capturing");
  status_.state = state;
  status_.reason = reason;
}

void Machine::start_anew() {
  {
    std::lock_guard lock(mutex_);
    anew_order_ = ++anew_orders_;
  }
  wake();
}

bool Machine::fulfil(std::uint64_t order) {
  std::lock_guard lock(mutex_);
  if (anew_order_ != order) return false;
  anew_order_ = 0;
  return true;
}

MachineStatus Machine::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

void Machine::set_policy(const Policy& policy) {
  {
    std::lock_guard lock(mutex_);
    policy_ = policy;
  }
  wake();
}

void Machine::set_consistent_trouble(const std::string& why) {
  std::lock_guard lock(mutex_);
  status_.consistent_trouble = why;
}

void Machine::set_config(const Json& config) {
  {
    std::lock_guard lock(mutex_);
    config_ = config;
    config_changed_ = true;
  }
  wake();
}

}  // namespace ckptd
