// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What to fetch next while nobody waits for it: the working set of the last restore with what lies around it, pages
// that the newest epochs changed, then the rest; at any time what lies near faults. Given out in batches, to any number
// of threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
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
  // Finds out where some of what comes next is, so that nobody has to wait for that in next(); unless enough is known,
  // or somebody is at it.
  ckpt::Status look_ahead(Loader& loader);
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
  // Looked up, and given out in parts.
  struct Window {
    Batch batch;
    std::size_t at = 0;
  };
  struct Found {
    Batch batch;
    std::vector<PageId> put_back;  // where they are is damaged
    std::optional<ckpt::Error> damage;
  };

  ckpt::Result<Found> look_up(Loader& loader, std::uint32_t region, std::uint64_t first, std::uint64_t end) const;
  ckpt::Result<Batch> near_fault(Loader& loader);
  Batch take_part();
  // One thread at a time, which the others need not wait for as long as there are parts to take.
  ckpt::Status find_more(Loader& loader, std::unique_lock<std::mutex>& guard);
  ckpt::Result<Found> find_next(Loader& loader);
  ckpt::Status from_list(Loader& loader, Found& found);
  ckpt::Status from_rest(Loader& loader, Found& found);
  static void add_damage(const Found& found, std::vector<PageId>& put_back, std::optional<ckpt::Error>& damage);
  std::vector<PageId> around(const std::vector<PageId>& pages) const;
  std::vector<PageId> changed_list();
  void sort(Batch& batch) const;

  MemoryMap& map_;
  Source& source_;
  Progress& progress_;
  WorkingSet& working_set_;
  Hints& hints_;
  // Of the one who is finding more:
  Stage stage_ = Stage::working_set;
  std::vector<PageId> list_;
  std::size_t list_at_ = 0;
  std::uint32_t region_ = 0;  // of the rest: this is where it goes on
  std::uint64_t page_ = 0;
  std::mutex lock_;  // protects what follows
  std::condition_variable found_more_;
  bool finding_ = false;
  bool all_found_ = false;
  std::deque<Window> windows_;
  std::vector<PageId> put_back_;
  std::optional<ckpt::Error> damage_;
};

}  // namespace agent
