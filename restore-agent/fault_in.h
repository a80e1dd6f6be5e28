// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Serves the pages that someone waits for. A page that cannot be read stays pending, never holds up the others, and
// is tried again until it can.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <vector>

#include "filler.h"
#include "flow.h"
#include "hints.h"
#include "loader.h"
#include "progress.h"
#include "stop.h"
#include "working_set.h"

namespace agent {

class FaultIn {
public:
  FaultIn(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set, Hints& hints,
          Flow& flow, Stop& stop);

  // The thread: until stopped, or until the machine has gone.
  void run();

private:
  using Instant = std::chrono::steady_clock::time_point;

  struct Waiting {
    UnitId id;
    pid_t thread;  // 0: the kernel did not say
    Instant since;
  };
  // What lies beside a page that was needed is needed soon, and costs little now.
  struct Ahead {
    UnitId id;
    Places around;
    bool rest = false;  // what came with the page is there; next, when it is quiet, what lies near it
  };
  enum class Served { yes, not_now, gone };

  // Whether there was one.
  bool take_messages();
  bool serve_waiting();
  Served serve(const Waiting& waiting);
  // A page, or a huge one, into its place.
  ckpt::Result<Fill> fill_page(const UnitId& id, bool& zero);
  ckpt::Result<Fill> fill_huge(const UnitId& id);
  // One step of it; false: there is nothing to do now.
  bool read_ahead();
  bool fill_next(Ahead& ahead);
  void sleep();

  MemoryMap& map_;
  Filler& filler_;
  Source& source_;
  Progress& progress_;
  WorkingSet& working_set_;
  Hints& hints_;
  Flow& flow_;
  Stop& stop_;
  Loader loader_;
  std::vector<Waiting> waiting_;
  std::vector<Waiting> stuck_;  // tried in vain
  Instant retry_at_;
  std::deque<Ahead> ahead_;  // the newest first
  std::vector<std::uint8_t> huge_;
  Instant none_at_;  // no message was there then
  bool quiet_ = false;
};

}  // namespace agent
