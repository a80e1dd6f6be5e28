// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Pages that a restored machine touched first, kept in a file for its next restore. Format: doc/restore_format.md. A
// file that is damaged, too large or of another machine is worth nothing, and does no harm.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "ckpt/result.h"

namespace agent {

struct WorkingSetPage {
  std::string block;
  std::uint64_t page = 0;  // of 4 KiB

  bool operator==(const WorkingSetPage&) const = default;
};

inline constexpr std::size_t working_set_pages_limit = 65536;

ckpt::Bytes encode_working_set(const std::vector<WorkingSetPage>& pages);
ckpt::Result<std::vector<WorkingSetPage>> decode_working_set(ckpt::ByteView bytes);

class WorkingSet {
public:
  // An empty path keeps nothing.
  explicit WorkingSet(std::string path) : path_(std::move(path)) {}

  // What the last restore recorded, in order of first use. not_found: there is none.
  ckpt::Result<std::vector<WorkingSetPage>> load();
  // In order of first use; beyond the limit they are dropped.
  void record(const std::string& block, std::uint64_t page);
  // Writes what this restore recorded, then what the last one had, when something is new. Pages fetched ahead never
  // fault, so what was used before has to be carried over.
  ckpt::Status save();

private:
  struct Hash {
    std::size_t operator()(const WorkingSetPage& page) const {
      return std::hash<std::string>()(page.block) ^ static_cast<std::size_t>(page.page * 0x9E3779B97F4A7C15);
    }
  };

  const std::string path_;
  std::mutex lock_;  // protects what follows
  std::vector<WorkingSetPage> before_;
  std::vector<WorkingSetPage> recorded_;
  std::unordered_set<WorkingSetPage, Hash> seen_;
  std::size_t saved_ = 0;
};

}  // namespace agent
