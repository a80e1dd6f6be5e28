// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Fetches what nobody waits for yet, as the plan has it, on several threads: those that have a CPU each, or as many as
// a far store needs to be busy. Faults go first, and a bandwidth cap is kept.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "filler.h"
#include "flow.h"
#include "plan.h"
#include "stop.h"

namespace agent {

class Prefetch {
public:
  Prefetch(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set, Hints& hints,
           Flow& flow, Stop& stop, int complete_event);

  // The thread: until stopped, until the machine has gone, or until every page that is not zero is there; then it
  // writes to complete_event.
  void run();

private:
  enum class Went { on, end };

  // Until nothing is left.
  Went work_together();
  void start_others();
  unsigned threads_wanted() const;
  // Threads are numbered from 0.
  Went work(unsigned number);
  Went stand_by(unsigned number, std::uint64_t& faults_seen);
  Went fetch(Batch& batch, Loader& loader);
  Went fetch_huge(Batch& batch);
  Went fill_zeroes(const Batch& batch);
  Went damaged(const Batch& batch, std::size_t index, const ckpt::Error& error);
  void note_damage(const ckpt::Error& error);
  // Tries to fill until there is room for it.
  template <typename Attempt>
  Went fill(Attempt attempt);
  void count(std::uint64_t bytes);
  // Waits until it may go on: mode, bandwidth, and faults unless somebody will wait for this soon as well.
  Went pause_for_others(bool soon = false);
  Went wait_for_store(const ckpt::Error& error);

  MemoryMap& map_;
  Filler& filler_;
  Source& source_;
  Progress& progress_;
  Flow& flow_;
  Stop& stop_;
  Plan plan_;
  const int complete_event_;
  const unsigned cpus_;
  std::vector<std::thread> others_;  // than the first, which starts them
  std::atomic<bool> ended_{false};
  std::atomic<bool> damaged_{false};
  std::atomic<bool> nothing_left_{false};
  std::mutex pace_lock_;  // protects what follows
  std::chrono::steady_clock::time_point may_go_on_;
};

}  // namespace agent
