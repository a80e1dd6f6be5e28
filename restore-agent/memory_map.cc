// SPDX-License-Identifier: LGPL-2.1-or-later
#include "memory_map.h"

#include <algorithm>

namespace agent {

using ckpt::Code;
using ckpt::make_error;
using ckpt::Object;
using ckpt::ObjectClass;
using ckpt::Result;

Region::Region(RamBlock block, std::size_t object)
    : block_(std::move(block)),
      object_(object),
      bits_(std::make_unique<std::atomic<std::uint64_t>[]>((units() + 63) / 64)) {}

bool Region::present(std::uint64_t unit) const {
  return bits_[unit / 64].load(std::memory_order_relaxed) >> (unit % 64) & 1;
}

bool Region::set_present(std::uint64_t unit) {
  std::uint64_t bit = 1ull << (unit % 64);
  return !(bits_[unit / 64].fetch_or(bit, std::memory_order_relaxed) & bit);
}

Result<std::unique_ptr<MemoryMap>> MemoryMap::create(const std::vector<RamBlock>& blocks,
                                                     const std::vector<Object>& objects) {
  auto map = std::make_unique<MemoryMap>();
  for (const RamBlock& block : blocks) {
    auto object = std::find_if(objects.begin(), objects.end(), [&](const Object& o) {
      return o.object_class == ObjectClass::ram && o.name == block.name;
    });
    if (object == objects.end())
      return make_error(Code::refused, "the checkpoint has no RAM block '" + block.name +
                                           "': start QEMU with the devices it was taken with");
    if (object->size_bytes != block.used_length)
      return make_error(Code::refused, "RAM block '" + block.name + "' has " + std::to_string(block.used_length) +
                                           " bytes here and " + std::to_string(object->size_bytes) +
                                           " in the checkpoint: start QEMU with the memory it was taken with");
    map->regions_.push_back(std::make_unique<Region>(block, static_cast<std::size_t>(object - objects.begin())));
    map->total_bytes_ += block.used_length;
  }
  for (const Object& object : objects)
    if (object.object_class == ObjectClass::ram && !map->find(object.name))
      return make_error(Code::refused, "the checkpoint has a RAM block '" + object.name +
                                           "' that this machine has not: start QEMU with the "
                                           "devices it was taken with");
  return map;
}

std::optional<UnitId> MemoryMap::find(std::uint64_t address) const {
  for (std::uint32_t i = 0; i < regions_.size(); ++i) {
    const RamBlock& block = regions_[i]->block();
    if (address >= block.host_address && address - block.host_address < block.used_length)
      return UnitId{i, (address - block.host_address) / block.page_size};
  }
  return std::nullopt;
}

std::optional<std::uint32_t> MemoryMap::find(const std::string& block_name) const {
  for (std::uint32_t i = 0; i < regions_.size(); ++i)
    if (regions_[i]->block().name == block_name) return i;
  return std::nullopt;
}

bool MemoryMap::same_blocks(const std::vector<RamBlock>& blocks) const {
  return std::equal(
      blocks.begin(), blocks.end(), regions_.begin(), regions_.end(),
      [](const RamBlock& block, const std::unique_ptr<Region>& region) { return block == region->block(); });
}

std::vector<RamBlockSize> block_sizes(const std::vector<Object>& objects) {
  std::vector<RamBlockSize> sizes;
  for (const Object& object : objects)
    if (object.object_class == ObjectClass::ram) sizes.push_back({object.name, object.size_bytes});
  return sizes;
}

}  // namespace agent
