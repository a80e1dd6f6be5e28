// SPDX-License-Identifier: LGPL-2.1-or-later
#include "flow.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

namespace agent {

namespace {

constexpr std::size_t KiB = 1024;
// Each keeps about twice as much on its way as the one before; the last 4 MiB, which is what they may take of memory.
constexpr Flow::Step steps[] = {{0, 2},        {0, 4},         {24 * KiB, 3},   {24 * KiB, 6},  {48 * KiB, 6},
                                {96 * KiB, 6}, {128 * KiB, 8}, {128 * KiB, 16}, {256 * KiB, 16}};

// Ten times what a frame takes to decompress.
constexpr std::uint64_t slow_ns = 300'000;
// Of the last 32 requests: a busy host makes some of any store's slow.
constexpr int far_above = 24, near_below = 8;
// Judged by so many requests and so long, after some that were on their way before.
constexpr std::uint64_t trial_requests = 32;
constexpr double trial_ns = 100e6;
constexpr unsigned rest_trials = 16;
// What more must bring, and what less may cost.
constexpr double worth_it = 1.1, as_good = 0.98;
// However much it brings: who waits for a page waits behind these requests. Compared with those that waited least, of
// which the old ones count less and less.
constexpr double long_ns = 10e6, long_share = 4, forget = 1.01;
// Of the threads' time: if they do not ask for longer, it is something else that they wait for.
constexpr double busy_share = 0.25;

}  // namespace

void Flow::look_how_far(const ckpt::StoreRequests& made) {
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(made.count, 32); ++i)
    slow_ = slow_ << 1 | (made.nanoseconds / made.count >= slow_ns ? 1 : 0);
  const int slow = std::popcount(slow_);
  if (slow > far_above) far_.store(true, std::memory_order_relaxed);
  if (slow < near_below) far_.store(false, std::memory_order_relaxed);
}

void Flow::note_fault_in(const ckpt::StoreRequests& made) {
  if (made.count == 0) return;
  std::lock_guard guard(lock_);
  look_how_far(made);
}

void Flow::note(const ckpt::StoreRequests& made, Instant now) {
  if (made.count == 0) return;
  std::lock_guard guard(lock_);
  look_how_far(made);
  if (!far()) return;
  const unsigned threads = step().threads;
  if (passed_over_ < 2 * threads) {
    passed_over_ += made.count;
    trial_began_ = now;
    trial_ = {};
    return;
  }
  trial_.count += made.count;
  trial_.bytes += made.bytes;
  trial_.nanoseconds += made.nanoseconds;
  if (trial_.count < trial_requests) return;
  const double ns = std::chrono::duration<double, std::nano>(now - trial_began_).count();
  if (ns < trial_ns) return;
  trial_began_ = now;
  const ckpt::StoreRequests trial = std::exchange(trial_, {});
  const double asked_ns = static_cast<double>(trial.nanoseconds);
  if (asked_ns > busy_share * threads * ns)
    judge(static_cast<double>(trial.bytes) / ns, asked_ns / static_cast<double>(trial.count));
}

Flow::Step Flow::step() const { return steps[step_.load(std::memory_order_relaxed)]; }

void Flow::go(int direction) {
  step_ = static_cast<unsigned>(static_cast<int>(step_) + direction);
  passed_over_ = 0;
}

// Goes on in one direction as long as it is good, then in the other, then rests.
void Flow::judge(double speed, double each_ns) {
  const int last = static_cast<int>(std::size(steps)) - 1;
  least_ns_ = least_ns_ > 0 ? std::min(each_ns, least_ns_ * forget) : each_ns;
  const bool too_long = each_ns > std::max(long_ns, long_share * least_ns_);
  const bool good = direction_ > 0 ? speed >= worth_it * speed_before_ && !too_long : speed >= as_good * speed_before_;
  if (trying_ && !good) {
    go(-direction_);
    turn();
    return;
  }
  if (trying_) failed_ = 0;
  // On the way down it is compared with where that began.
  if (!trying_ || direction_ > 0) speed_before_ = speed;
  trying_ = false;
  if (too_long) {
    direction_ = -1;
  } else if (rest_ > 0) {
    --rest_;
    return;
  }
  if (const int next = static_cast<int>(step_) + direction_; next < 0 || next > last) {
    turn();
    return;
  }
  go(direction_);
  trying_ = true;
}

void Flow::turn() {
  direction_ = -direction_;
  trying_ = false;
  if (++failed_ < 2) return;
  failed_ = 0;
  rest_ = rest_trials;
}

}  // namespace agent
