// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How much is asked of the store at once for what nobody waits for yet. Of a near one little: it costs more to
// decompress than to read. A far one takes its time for each request, be it small or not, so that it is asked for more,
// by more threads, until that brings no more in the same time: beyond that, requests only wait for one another, and so
// does who waits for a page.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "ckpt/store.h"

namespace agent {

class Flow {
public:
  struct Step {
    std::size_t request_bytes;  // 0: a frame
    unsigned threads;
  };

  using Instant = std::chrono::steady_clock::time_point;

  // What a thread has asked since it said so before: for who waits, or ahead.
  void note_fault_in(const ckpt::StoreRequests& made);
  void note(const ckpt::StoreRequests& made, Instant now);

  // Reading takes long compared with decompressing.
  bool far() const { return far_.load(std::memory_order_relaxed); }
  // For a store that is far.
  Step step() const;

private:
  void look_how_far(const ckpt::StoreRequests& made);
  void judge(double speed, double each_ns);
  void go(int direction);
  void turn();

  std::atomic<bool> far_{false};
  std::atomic<unsigned> step_{2};  // the links that are most usual need this one, or one near it
  std::mutex lock_;                // protects what follows
  std::uint32_t slow_ = 0;         // a bit for each of the last requests
  std::uint64_t passed_over_ = 0;
  ckpt::StoreRequests trial_;
  Instant trial_began_;
  bool trying_ = false;
  int direction_ = 1;
  unsigned failed_ = 0;  // directions, one after the other
  unsigned rest_ = 0;    // trials until another step is tried
  double speed_before_ = 0;
  double least_ns_ = 0;  // that requests took; 0: none was judged
};

}  // namespace agent
