// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the agent says of itself: doc/restore_format.md, "Status". Written by all threads, read by the main one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "histogram.h"
#include "options.h"
#include "service_level.h"

namespace agent {

enum class State {
  waiting_for_qemu,  // nobody has connected yet, or the connection was lost and QEMU lives
  restoring,
  done,
  gone,     // the machine has ended before all was there
  stopped,  // asked to end
};

// Why pages are not coming.
enum class Obstacle { none, store, host };

class Progress {
public:
  explicit Progress(const Options& options);

  void set_state(State state);
  State state() const { return state_.load(); }
  void set_obstacle(Obstacle obstacle, const std::string& reason);
  void clear_obstacle() {
    if (obstacle_.load(std::memory_order_relaxed) != Obstacle::none) set_obstacle(Obstacle::none, "");
  }
  // What somebody waits for is being read, or no longer.
  void begin_read() { reading_since_ms_.store(elapsed_ms() + 1, std::memory_order_relaxed); }
  void end_read() { reading_since_ms_.store(0, std::memory_order_relaxed); }
  void set_taken_over() { taken_over_ = true; }

  void set_mode(Mode mode) { mode_ = mode; }
  Mode mode() const { return mode_.load(std::memory_order_relaxed); }

  // Instants, as time since the agent started; the first value stays.
  void mark(const std::string& name);

  // 4 KiB pages.
  std::atomic<std::uint64_t> pages_total{0};
  std::atomic<std::uint64_t> pages_present{0};
  std::atomic<std::uint64_t> pages_faulted{0};     // that someone waited for
  std::atomic<std::uint64_t> pages_read_ahead{0};  // beside a fault
  std::atomic<std::uint64_t> pages_prefetched{0};
  std::atomic<std::uint64_t> pages_zero{0};  // seen by prefetch as zeroes, left for the end
  std::atomic<std::uint64_t> bytes_read{0};  // of pages, out of the store
  std::atomic<std::uint64_t> faults{0};
  std::atomic<std::uint64_t> faults_pending{0};
  std::atomic<std::uint64_t> store_errors{0};
  std::atomic<std::uint64_t> bandwidth_bytes_s{0};
  Histogram fault_us;  // from the message to the page being there
  ServiceLevel service;

  // One JSON object in one line, without its end. Main thread only: it keeps what rates are computed from.
  std::string json();

private:
  double rate_mib_s();
  std::uint64_t elapsed_ms() const;

  const std::string checkpoint_;
  const std::uint64_t started_ns_;  // CLOCK_REALTIME
  const std::chrono::steady_clock::time_point started_;
  std::atomic<Mode> mode_;
  std::atomic<State> state_{State::waiting_for_qemu};
  std::atomic<bool> taken_over_{false};
  std::atomic<Obstacle> obstacle_{Obstacle::none};
  std::atomic<std::uint64_t> reading_since_ms_{0};  // 0: nothing is being read
  std::mutex lock_;                                 // protects what follows
  std::string reason_;
  std::map<std::string, std::uint64_t> marks_ms_;
  std::uint64_t rate_bytes_ = 0;
  std::chrono::steady_clock::time_point rate_at_;
  double rate_ = 0;
};

}  // namespace agent
