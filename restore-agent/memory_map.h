// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where the pages of a checkpoint go in QEMU's address space, and which are there already.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/result.h"
#include "ckpt/store.h"
#include "wire.h"

namespace agent {

// A unit is one page of the memory behind a block: 4 KiB, or a huge page. It is filled as a whole or not at all.
struct UnitId {
  std::uint32_t region = 0;
  std::uint64_t unit = 0;

  bool operator==(const UnitId&) const = default;
};

// One RAM block that is being filled.
class Region {
public:
  Region(RamBlock block, std::size_t object);

  const RamBlock& block() const { return block_; }
  std::size_t object() const { return object_; }  // in CheckpointReader::objects()
  std::uint64_t unit_bytes() const { return block_.page_size; }
  std::uint64_t units() const { return block_.used_length / block_.page_size; }
  std::uint64_t address(std::uint64_t unit) const { return block_.host_address + unit * block_.page_size; }

  bool present(std::uint64_t unit) const;
  // True when it was not known to be there before.
  bool set_present(std::uint64_t unit);

private:
  RamBlock block_;
  std::size_t object_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> bits_;
};

class MemoryMap {
public:
  // Matches QEMU's blocks with the RAM objects of a checkpoint: the same names on both sides. refused: which
  // machine does not fit, and what to do.
  static ckpt::Result<std::unique_ptr<MemoryMap>> create(const std::vector<RamBlock>& blocks,
                                                         const std::vector<ckpt::Object>& objects);

  std::vector<std::unique_ptr<Region>>& regions() { return regions_; }
  Region& region(const UnitId& id) { return *regions_[id.region]; }
  std::optional<UnitId> find(std::uint64_t address) const;
  std::optional<std::uint32_t> find(const std::string& block_name) const;
  std::uint64_t total_bytes() const { return total_bytes_; }
  // Whether these are the blocks it was made from: a machine that comes back must be the same one.
  bool same_blocks(const std::vector<RamBlock>& blocks) const;

private:
  std::vector<std::unique_ptr<Region>> regions_;
  std::uint64_t total_bytes_ = 0;
};

// Names and lengths that QEMU is to take on.
std::vector<RamBlockSize> block_sizes(const std::vector<ckpt::Object>& objects);

}  // namespace agent
