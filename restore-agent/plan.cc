// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan.h"

#include <algorithm>
#include <set>
#include <utility>

namespace agent {

using ckpt::page_size_bytes;
using ckpt::PagePlace;
using ckpt::Result;
using ckpt::Status;

namespace {

// Around a fault, and around each page of the working set.
constexpr std::uint64_t near_pages = 64;
// Of the working set: with more it is none, and all of it comes anyway.
constexpr std::size_t windows_limit = 4096;
// Hints are looked at that often.
constexpr std::size_t batch_pages = 512;
constexpr std::size_t list_batch_pages = 256;
// Within so much memory pages come in the order of the store, so that each frame is read once, and one behind another.
constexpr std::uint64_t window_pages = 65536;
// In the worst case each node of the manifest's tree is a request, for 64 pages of which the quarter are a few
// requests.
constexpr std::size_t enough_pages = window_pages / 4;
constexpr unsigned changed_generations = 8;
constexpr std::size_t changed_pages_limit = 65536;

// Pages of [first, end) that are not among `data`.
void add_zeroes(Batch& batch, std::uint64_t first, std::uint64_t end, const Places& data) {
  for (const PagePlace& page : data.pages) {
    while (first < page.page) batch.zeroes.push_back(first++);
    first = page.page + 1;
  }
  while (first < end) batch.zeroes.push_back(first++);
}

void append(Batch& batch, Batch&& more) {
  auto& pages = batch.places.pages;
  if (pages.empty()) {
    batch.places = std::move(more.places);
    return;
  }
  if (more.empty()) return;
  // Of two openings of the store: to be looked up anew.
  if (more.places.opened != batch.places.opened) batch.places.opened.reset();
  pages.insert(pages.end(), more.places.pages.begin(), more.places.pages.end());
}

}  // namespace

void Plan::sort(Batch& batch) const {
  const Region& region = *map_.regions()[batch.region];
  const std::uint64_t unit_pages = region.unit_bytes() / page_size_bytes;
  auto& pages = batch.places.pages;
  std::erase_if(pages, [&](const PagePlace& page) { return region.present(page.page / unit_pages); });
  std::sort(pages.begin(), pages.end(),
            [](const PagePlace& one, const PagePlace& other) { return one.place < other.place; });
}

// A damaged node of the manifest's tree holds up the pages that it maps, and no others.
Result<Plan::Found> Plan::look_up(Loader& loader, std::uint32_t region, std::uint64_t first, std::uint64_t end) const {
  auto places = loader.places(map_.regions()[region]->object(), first, end);
  if (places.ok()) return Found{.batch = {.region = region, .places = places.take()}};
  if (places.error().code != ckpt::Code::corrupt) return places.error();
  const std::uint64_t middle = (first + end) / 2 / leaf_pages * leaf_pages;
  if (middle <= first) {
    Found found{.batch = {.region = region}, .damage = places.error()};
    for (std::uint64_t page = first; page < end; ++page) found.put_back.push_back({region, page});
    return found;
  }
  CKPT_ASSIGN(Found found, look_up(loader, region, first, middle));
  CKPT_ASSIGN(Found rest, look_up(loader, region, middle, end));
  append(found.batch, std::move(rest.batch));
  add_damage(rest, found.put_back, found.damage);
  return found;
}

void Plan::add_damage(const Found& found, std::vector<PageId>& put_back, std::optional<ckpt::Error>& damage) {
  put_back.insert(put_back.end(), found.put_back.begin(), found.put_back.end());
  if (found.damage) damage = found.damage;
}

Result<Batch> Plan::next(Loader& loader) {
  for (;;) {
    CKPT_ASSIGN(Batch batch, near_fault(loader));
    if (!batch.empty()) return batch;
    std::unique_lock guard(lock_);
    batch = take_part();
    if (!batch.empty()) return batch;
    if (finding_) {
      found_more_.wait(guard);
    } else if (all_found_) {
      return batch;
    } else {
      CKPT_TRY(find_more(loader, guard));
    }
  }
}

Status Plan::look_ahead(Loader& loader) {
  std::unique_lock guard(lock_);
  std::size_t known = 0;
  for (const Window& window : windows_) known += window.batch.places.pages.size() - window.at;
  if (finding_ || all_found_ || known >= enough_pages) return {};
  return find_more(loader, guard);
}

Status Plan::find_more(Loader& loader, std::unique_lock<std::mutex>& guard) {
  finding_ = true;
  guard.unlock();
  auto found = find_next(loader);
  guard.lock();
  finding_ = false;
  found_more_.notify_all();
  if (!found.ok()) return found.error();
  add_damage(*found, put_back_, damage_);
  all_found_ = found->batch.empty() && found->put_back.empty();
  if (!found->batch.empty()) windows_.push_back({std::move(found->batch)});
  return {};
}

Batch Plan::take_part() {
  while (!windows_.empty()) {
    auto& [window, at] = windows_.front();
    const auto& pages = window.places.pages;
    Batch part{.region = window.region,
               .places = {window.places.opened, window.places.object, {}},
               .soon = window.soon,
               .zeroes = std::exchange(window.zeroes, {})};
    std::size_t end = std::min(at + batch_pages, pages.size());
    part.places.pages.assign(pages.begin() + static_cast<std::ptrdiff_t>(at),
                             pages.begin() + static_cast<std::ptrdiff_t>(end));
    at = end;
    if (end == pages.size()) windows_.pop_front();
    sort(part);
    if (!part.empty()) return part;
  }
  return {};
}

Result<Batch> Plan::near_fault(Loader& loader) {
  while (auto hint = hints_.pop()) {
    Region& region = map_.region(*hint);
    if (region.unit_bytes() != page_size_bytes) continue;
    std::uint64_t first = hint->unit / near_pages * near_pages;
    CKPT_ASSIGN(Found found, look_up(loader, hint->region, first, std::min(first + near_pages, region.units())));
    {
      std::lock_guard guard(lock_);
      add_damage(found, put_back_, damage_);
    }
    sort(found.batch);
    if (!found.batch.empty()) return std::move(found.batch);
  }
  return Batch{};
}

Result<Plan::Found> Plan::find_next(Loader& loader) {
  Found found;
  // What was put back must not be lost to an error of what follows.
  while (found.batch.empty() && found.put_back.empty()) {
    if (list_at_ < list_.size()) {
      CKPT_TRY(from_list(loader, found));
    } else if (stage_ == Stage::working_set) {
      stage_ = Stage::around_it;
      list_at_ = 0;
      list_ = around(list_);
    } else if (stage_ == Stage::around_it) {
      stage_ = Stage::changed;
      list_at_ = 0;
      list_ = progress_.mode() == Mode::full ? std::vector<PageId>{} : changed_list();
    } else {
      stage_ = Stage::rest;
      if (region_ == map_.regions().size()) break;
      CKPT_TRY(from_rest(loader, found));
    }
  }
  return found;
}

Status Plan::from_list(Loader& loader, Found& found) {
  Batch batch{.region = list_[list_at_].region, .soon = stage_ <= Stage::around_it};
  std::size_t at = list_at_;
  while (at < list_.size() && list_[at].region == batch.region && at - list_at_ < list_batch_pages) {
    std::uint64_t first = list_[at].page, end = first;
    while (at < list_.size() && list_[at].region == batch.region && list_[at].page == end) ++end, ++at;
    CKPT_ASSIGN(Found run, look_up(loader, batch.region, first, end));
    // Nothing is known of those that were put back.
    if (batch.soon && run.put_back.empty()) add_zeroes(batch, first, end, run.batch.places);
    append(batch, std::move(run.batch));
    add_damage(run, found.put_back, found.damage);
  }
  list_at_ = at;
  sort(batch);
  found.batch = std::move(batch);
  return {};
}

Status Plan::from_rest(Loader& loader, Found& found) {
  const Region& region = *map_.regions()[region_];
  const std::uint64_t region_pages = region.block().used_length / page_size_bytes;
  // Whole units, so that each comes once.
  std::uint64_t end = std::min(page_ + std::max(window_pages, region.unit_bytes() / page_size_bytes), region_pages);
  CKPT_ASSIGN(found, look_up(loader, region_, page_, end));
  // Left alone: what is missing when the memory is handed back reads as zeroes.
  progress_.pages_zero.fetch_add(end - page_ - found.batch.places.pages.size() - found.put_back.size(),
                                 std::memory_order_relaxed);
  sort(found.batch);
  page_ = end;
  if (page_ == region_pages) {
    ++region_;
    page_ = 0;
  }
  return {};
}

void Plan::put_back(std::uint32_t region, std::uint64_t page) {
  std::lock_guard guard(lock_);
  put_back_.push_back({region, page});
}

std::optional<ckpt::Error> Plan::damage() {
  std::lock_guard guard(lock_);
  return std::exchange(damage_, std::nullopt);
}

bool Plan::start_again() {
  std::lock_guard guard(lock_);
  all_found_ = false;
  list_ = std::exchange(put_back_, {});
  list_at_ = 0;
  return !list_.empty();
}

void Plan::start() {
  auto pages = working_set_.load();
  for (std::size_t i = 0; pages.ok() && i < pages->size(); ++i) {
    const WorkingSetPage& page = (*pages)[i];
    auto index = map_.find(page.block);
    if (index && page.page < map_.regions()[*index]->block().used_length / page_size_bytes)
      list_.push_back({*index, page.page});
  }
}

std::vector<Plan::PageId> Plan::around(const std::vector<PageId>& pages) const {
  std::vector<PageId> list;
  std::set<std::pair<std::uint32_t, std::uint64_t>> windows;
  for (const PageId& id : pages) {
    if (windows.size() == windows_limit) break;
    std::uint64_t first = id.page / near_pages * near_pages;
    if (!windows.insert({id.region, first}).second) continue;
    std::uint64_t end = map_.regions()[id.region]->block().used_length / page_size_bytes;
    for (std::uint64_t page = first; page < std::min(first + near_pages, end); ++page)
      list.push_back({id.region, page});
  }
  return list;
}

std::vector<Plan::PageId> Plan::changed_list() {
  std::vector<PageId> list;
  for (std::uint32_t i = 0; i < map_.regions().size(); ++i) {
    const Region& region = *map_.regions()[i];
    auto pages = source_.changed_pages(region.object(), changed_generations);
    if (!pages.ok()) continue;
    for (std::uint64_t page : *pages) {
      if (list.size() == changed_pages_limit) return list;
      if (page < region.block().used_length / page_size_bytes) list.push_back({i, page});
    }
  }
  return list;
}

}  // namespace agent
