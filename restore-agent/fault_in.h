// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Serves the pages that someone waits for. A page that cannot be read stays pending, never holds up the others, and
// is tried again until it can.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "filler.h"
#include "hints.h"
#include "progress.h"
#include "source.h"
#include "stop.h"
#include "working_set.h"

namespace agent {

class FaultIn {
public:
  FaultIn(MemoryMap& map, Filler& filler, Source& source, Progress& progress, WorkingSet& working_set, Hints& hints,
          Stop& stop);

  // The thread: until stopped, or until the machine has gone.
  void run();

private:
  struct Waiting {
    UnitId id;
    pid_t thread;  // 0: the kernel did not say
    std::chrono::steady_clock::time_point since;
  };
  enum class Served { yes, not_now, gone };

  // `since`: when they may have come.
  void take_messages(std::chrono::steady_clock::time_point since);
  bool more_messages();
  bool serve_waiting();
  Served serve(const Waiting& waiting);
  // A unit's bytes into unit_; true when they are all zeroes.
  ckpt::Result<bool> read_unit(const UnitId& id);
  // What lies beside a page that was needed is needed soon, and costs little now.
  void read_ahead(const UnitId& id);

  MemoryMap& map_;
  Filler& filler_;
  Source& source_;
  Progress& progress_;
  WorkingSet& working_set_;
  Hints& hints_;
  Stop& stop_;
  std::vector<Waiting> waiting_;
  std::vector<UnitId> served_;
  std::vector<std::uint8_t> unit_;
  std::chrono::steady_clock::time_point none_at_;  // no message was there then
};

}  // namespace agent
