// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "store/backend.h"
#include "store/page_map.h"

namespace ckpt {

// How the files begin that a power cut may give their names back; whoever opens the store next removes them.
inline constexpr char spill_prefix[] = "spill-";

// What an open epoch has changed and memory has no room for: page maps as sorted runs in a file without a name, gone
// with whoever holds it. In memory stay 24 bytes for each thousand changed pages. One thread at a time.
class PageSpill {
public:
  // `name`: the file's, for the instant until it has none.
  PageSpill(Backend& backend, std::string name) : backend_(backend), name_(std::move(name)) {}

  // Appends the map of one object. Errors: limit, when there are too many runs to be looked through.
  Status add(std::size_t object, const PageMap& pages);

  void clear() {
    runs_.clear();
    blob_.reset();
    end_ = 0;
  }

  // What the newest run that knows the page says of it. Empty: not changed.
  Result<std::optional<Location>> find(std::size_t object, std::uint64_t page);
  // The object's maps, oldest first.
  Status each_run(std::size_t object, const std::function<Status(const PageMap&)>& visit);
  // Every location that is not 0, of all objects.
  Status each_location(const std::function<void(Location)>& visit);

private:
  using Pair = std::pair<std::uint64_t, std::uint64_t>;  // page and location, or the ends of a zeroed range of leaves
  struct Block {
    std::uint64_t first = 0;     // key
    std::uint64_t checksum = 0;  // kept here: a file that lies is found out
    std::uint32_t count = 0;
  };
  struct Table {
    std::uint64_t offset = 0;
    std::vector<Block> blocks;  // each but the last is full
  };
  struct Run {
    std::size_t object = 0;
    Table zeroed;
    Table pages;
  };

  Status add_pair(Table& table, const Pair& pair);
  Status finish_block(Table& table);
  Result<std::vector<Pair>> read_block(const Table& table, std::size_t index);
  Status each_pair(const Table& table, const std::function<void(const Pair&)>& visit);
  // The last pair whose key is not above `key`.
  Result<std::optional<Pair>> last_up_to(const Table& table, std::uint64_t key);

  Backend& backend_;
  std::string name_;
  std::unique_ptr<Blob> blob_;
  std::uint64_t end_ = 0;
  Bytes block_;  // being filled
  std::vector<Run> runs_;
};

}  // namespace ckpt
