// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Fetches what nobody waits for yet. Order: the working set of the last restore, pages that the newest epochs changed,
// what lies near faults (at any time), then the rest. Faults go first, and a bandwidth cap is kept.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "fd.h"
#include "filler.h"
#include "hints.h"
#include "progress.h"
#include "source.h"
#include "stop.h"
#include "working_set.h"

namespace agent {

class Prefetch {
public:
  Prefetch(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set, Hints& hints,
           Stop& stop, int complete_event);

  // The thread: until stopped, until the machine has gone, or until every page that is not zero is there; then it
  // writes to complete_event.
  void run();

private:
  enum class Went { on, end };

  Went fetch_list(const std::vector<UnitId>& list);
  Went fetch_hints();
  Went fetch_rest();
  Went fetch_region(std::uint32_t index);
  // The units of [first, first + units) that are not there.
  Went fetch_range(const UnitId& first, std::uint64_t units);
  Went fetch_run(const UnitId& first, std::uint64_t units);
  // Waits until it may go on: mode, faults, bandwidth.
  Went pause_for_others();
  Went wait_for_store(const ckpt::Error& error);
  std::vector<UnitId> working_set_list();
  std::vector<UnitId> changed_list();

  MemoryMap& map_;
  Filler& filler_;
  Source& source_;
  Progress& progress_;
  WorkingSet& working_set_;
  Hints& hints_;
  Stop& stop_;
  const int complete_event_;
  std::vector<std::uint8_t> buffer_;
  std::vector<UnitId> damaged_;  // tried again at the end: the store may have been repaired
  std::chrono::steady_clock::time_point may_go_on_;
};

}  // namespace agent
