// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/page_spill.h"

#include <algorithm>

#include "base/hash.h"

namespace ckpt {

namespace {

constexpr std::size_t pair_bytes = 16;
constexpr std::size_t block_pairs = 1024;
constexpr std::size_t max_runs = 4096;  // of 32 MiB each: 50 TiB of changed pages side by side, 2 TiB of scattered ones

}  // namespace

Status PageSpill::add(std::size_t object, const PageMap& pages) {
  if (runs_.size() == max_runs)
    return make_error(Code::limit, "one epoch changes more places than can be kept track of; capture more often");
  if (!blob_) {
    CKPT_ASSIGN(blob_, backend_.create(name_));
    // Another epoch of that name may have been quicker.
    if (Status removed = backend_.remove(name_); !removed && removed.error().code != Code::not_found) return removed;
  }
  Run run;
  run.object = object;
  run.zeroed.offset = end_;
  for (const auto& range : pages.zeroed()) CKPT_TRY(add_pair(run.zeroed, range));
  CKPT_TRY(finish_block(run.zeroed));
  run.pages.offset = end_;
  for (const auto& [index, leaf] : pages.leaves()) {
    for (std::size_t i = 0; i < node_entries; ++i) {
      if (((leaf.changed >> i) & 1) != 0) CKPT_TRY(add_pair(run.pages, {(index << node_bits) + i, leaf.locations[i]}));
    }
  }
  CKPT_TRY(finish_block(run.pages));
  runs_.push_back(std::move(run));
  return {};
}

Status PageSpill::add_pair(Table& table, const Pair& pair) {
  if (block_.empty()) table.blocks.push_back({pair.first, 0, 0});
  ByteWriter writer(block_);
  writer.u64(pair.first);
  writer.u64(pair.second);
  return ++table.blocks.back().count == block_pairs ? finish_block(table) : Status();
}

Status PageSpill::finish_block(Table& table) {
  if (block_.empty()) return {};
  table.blocks.back().checksum = checksum(block_);
  CKPT_TRY(blob_->append(block_));
  end_ += block_.size();
  block_.clear();
  return {};
}

Result<std::vector<PageSpill::Pair>> PageSpill::read_block(const Table& table, std::size_t index) {
  const Block& block = table.blocks[index];
  CKPT_ASSIGN(Bytes bytes,
              read_exactly(*blob_, table.offset + index * block_pairs * pair_bytes, block.count * pair_bytes));
  if (checksum(bytes) != block.checksum) {
    return make_error(Code::corrupt, "what the disk kept of an open epoch's page map is not what was written");
  }
  std::vector<Pair> pairs;
  ByteReader reader(bytes);
  for (std::uint32_t i = 0; i < block.count; ++i) {
    std::uint64_t key = reader.u64();
    pairs.emplace_back(key, reader.u64());
  }
  return pairs;
}

Status PageSpill::each_pair(const Table& table, const std::function<void(const Pair&)>& visit) {
  for (std::size_t i = 0; i < table.blocks.size(); ++i) {
    CKPT_ASSIGN(auto pairs, read_block(table, i));
    for (const Pair& pair : pairs) visit(pair);
  }
  return {};
}

Result<std::optional<PageSpill::Pair>> PageSpill::last_up_to(const Table& table, std::uint64_t key) {
  auto block = std::upper_bound(table.blocks.begin(), table.blocks.end(), key,
                                [](std::uint64_t wanted, const Block& candidate) { return wanted < candidate.first; });
  if (block == table.blocks.begin()) return std::optional<Pair>();
  CKPT_ASSIGN(auto pairs, read_block(table, static_cast<std::size_t>(block - table.blocks.begin()) - 1));
  auto behind = std::upper_bound(pairs.begin(), pairs.end(), key,
                                 [](std::uint64_t wanted, const Pair& candidate) { return wanted < candidate.first; });
  return std::optional<Pair>(*std::prev(behind));
}

Result<std::optional<Location>> PageSpill::find(std::size_t object, std::uint64_t page) {
  for (auto run = runs_.rbegin(); run != runs_.rend(); ++run) {
    if (run->object != object) continue;
    CKPT_ASSIGN(auto single, last_up_to(run->pages, page));
    if (single && single->first == page) return std::optional<Location>(single->second);
    CKPT_ASSIGN(auto range, last_up_to(run->zeroed, page >> node_bits));
    if (range && range->second > page >> node_bits) return std::optional<Location>(0);
  }
  return std::optional<Location>();
}

Status PageSpill::each_run(std::size_t object, const std::function<Status(const PageMap&)>& visit) {
  for (const Run& run : runs_) {
    if (run.object != object) continue;
    PageMap pages;
    CKPT_TRY(each_pair(run.zeroed, [&pages](const Pair& range) { pages.zero_leaves(range.first, range.second); }));
    CKPT_TRY(each_pair(run.pages, [&pages](const Pair& single) { pages.set(single.first, single.second); }));
    CKPT_TRY(visit(pages));
  }
  return {};
}

Status PageSpill::each_location(const std::function<void(Location)>& visit) {
  for (const Run& run : runs_) {
    CKPT_TRY(each_pair(run.pages, [&visit](const Pair& single) {
      if (single.second != 0) visit(single.second);
    }));
  }
  return {};
}

}  // namespace ckpt
