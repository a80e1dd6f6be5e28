// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A machine's epochs as points that somebody waits for.
#include <algorithm>
#include <chrono>

#include "common/clock.h"
#include "common/text.h"
#include "daemon/log.h"
#include "daemon/machine.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::int64_t gone_check_ms = 200;

}  // namespace

ckpt::StreamReceiver::Closed Machine::on_closed(std::uint64_t epoch) {
  // Its instant was between TAKE and now; who was frozen for a part of that may have been frozen then.
  const std::uint64_t freezes = hooks_.freezes();
  ckpt::StreamReceiver::Closed closed{.frozen = freezes % 2 == 1 || freezes != freezes_at_take_};
  std::lock_guard lock(mutex_);
  for (auto* request : requests_) {
    if (request->epoch != epoch || !request->frozen || request->done) continue;
    request->closed = request->frozen->holds();
    request->done = !request->closed;
    if (request->done)
      request->error = make_error(Code::unavailable, "the guest of '" + name_ +
                                                         "' was thawed before the point was captured: nobody could "
                                                         "hold it that long");
    closed.application_consistent |= request->closed;
  }
  changed_.notify_all();
  return closed;
}

void Machine::on_committed(const ckpt::CheckpointInfo& info, const ckpt::EpochFigures& figures) {
  // Not by what was greeted before the order.
  if (std::uint64_t order = active_->anew_order; order != 0 && order == anew_order_) hooks_.copied_anew(order);
  std::lock_guard lock(mutex_);
  if (status_.figures.epochs_total() == 0)
    log_line(name_ + ": first checkpoint of this run is durable: " + ckpt::to_string(info.id));
  status_.figures.add(figures);
  status_.remaining_bytes = 0;
  for (auto* request : requests_) {
    if (request->epoch != info.id.number || request->done) continue;
    request->checkpoint = info;
    request->done = true;
  }
  changed_.notify_all();
}

void Machine::fail_requests(const ckpt::Error& error) {
  std::lock_guard lock(mutex_);
  for (auto* request : requests_) {
    if (request->done) continue;
    request->error = error;
    request->done = true;
  }
  changed_.notify_all();
}

// False: it has not come to that, and nobody waits any more.
bool Machine::wait_for(std::unique_lock<std::mutex>& lock, const Request& request, Stage stage, std::int64_t end_ms,
                       const std::function<bool()>& gone) {
  auto there = [&] { return request.done || (stage == Stage::closed && request.closed); };
  while (!there()) {
    const std::int64_t left_ms = end_ms - monotonic_ms();
    if (left_ms <= 0) return false;
    changed_.wait_for(lock, std::chrono::milliseconds(std::min(left_ms, gone_check_ms)), there);
    // Not with the lock: who answers may hold another, in which this one is taken.
    lock.unlock();
    const bool abandoned = gone();
    lock.lock();
    if (abandoned && !there()) return false;
  }
  return true;
}

ckpt::Result<ckpt::CheckpointInfo> Machine::take_now(std::uint64_t time_limit_ms, const std::function<bool()>& gone,
                                                     const Frozen* frozen) {
  Request request;
  request.frozen = frozen;
  std::unique_lock lock(mutex_);
  const bool connected = status_.connected;
  if (connected) requests_.push_back(&request);
  wake();
  const std::int64_t end_ms = monotonic_ms() + static_cast<std::int64_t>(time_limit_ms);
  bool in_time = connected;
  if (frozen) {
    const std::int64_t closed_end_ms = std::min(end_ms, monotonic_ms() + frozen->limit_ms);
    in_time = in_time && wait_for(lock, request, Stage::closed, closed_end_ms, gone);
    // Should its epoch come now, it is as any other.
    if (!in_time) requests_.remove(&request);
    lock.unlock();
    frozen->over();
    lock.lock();
  }
  in_time = in_time && wait_for(lock, request, Stage::durable, end_ms, gone);
  requests_.remove(&request);
  if (!connected)
    return make_error(Code::unavailable,
                      "'" + name_ + "' is not connected (" + status_.state + "): is its QEMU running?");
  if (request.done && request.error) return *request.error;
  if (request.done) return request.checkpoint;
  const std::string state = status_.state;
  lock.unlock();
  if (gone()) return make_error(Code::cancelled, "the client has gone");
  const bool late = frozen && !request.closed && frozen->limit_ms < static_cast<std::int64_t>(time_limit_ms);
  return make_error(Code::unavailable,
                    "no checkpoint of '" + name_ + "' " + (late ? "was captured " : "") + "within " +
                        format_duration_ms(late ? static_cast<std::uint64_t>(frozen->limit_ms) : time_limit_ms) + " (" +
                        state + ")" + (late ? ", and its guest is frozen no longer" : ""));
}

}  // namespace ckptd
