// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What to fetch next while nobody waits for it: the working set of the last restore with what lies around it, pages
// that the newest epochs changed, then the rest; at any time what lies near faults. Given out in batches, to any number
// of threads.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "hints.h"
#include "loader.h"
#include "memory_map.h"
#include "progress.h"
#include "working_set.h"

namespace agent {

// Pages of one region that are missing and not zero, in the order of their places in the store.
struct Batch {
  std::uint32_t region = 0;
  Places places;
  // Of the working set or around it: somebody will wait for it in a moment.
  bool soon = false;
  // Those that read as zeroes; of a batch that is not wanted soon they are left for the end.
  std::vector<std::uint64_t> zeroes;

  bool empty() const { return places.pages.empty() && zeroes.empty(); }
};

class Plan {
public:
  Plan(MemoryMap& map, Source& source, Progress& progress, WorkingSet& working_set, Hints& hints)
      : map_(map), source_(source), progress_(progress), working_set_(working_set), hints_(hints) {}

  // First of all, also when nothing is to be fetched yet.
  void start();
  // An empty one: nothing is left. After an error, as of Source, it may be asked again.
  ckpt::Result<Batch> next(Loader& loader);
  // A page that could not be had.
  void put_back(std::uint32_t region, std::uint64_t page);
  // Why next() has put pages back itself, since last asked: what says where they are is damaged.
  std::optional<ckpt::Error> damage();
  // When nothing is left: those that were put back come once more. False: there are none.
  bool start_again();

private:
  struct PageId {
    std::uint32_t region = 0;
    std::uint64_t page = 0;  // of 4 KiB
  };
  // What lies around the working set came unasked beside it when it was recorded: nobody waited for that, and somebody
  // would now.
  enum class Stage { working_set, around_it, changed, rest };

  ckpt::Result<Batch> look_up(Loader& loader, std::uint32_t region, std::uint64_t first, std::uint64_t end);
  ckpt::Result<Batch> near_fault(Loader& loader);
  ckpt::Result<Batch> from_list(Loader& loader);
  ckpt::Result<Batch> from_rest(Loader& loader);
  std::vector<PageId> around(const std::vector<PageId>& pages) const;
  std::vector<PageId> changed_list();
  void sort(Batch& batch) const;

  MemoryMap& map_;
  Source& source_;
  Progress& progress_;
  WorkingSet& working_set_;
  Hints& hints_;
  std::mutex lock_;  // protects what follows
  Stage stage_ = Stage::working_set;
  std::vector<PageId> list_;
  std::size_t list_at_ = 0;
  std::uint32_t region_ = 0;  // of the rest: this is where it goes on
  std::uint64_t page_ = 0;
  Batch window_;  // looked up at once, given out in parts
  std::size_t window_at_ = 0;
  std::vector<PageId> put_back_;
  std::optional<ckpt::Error> damage_;
};

}  // namespace agent
