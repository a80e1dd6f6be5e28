// SPDX-License-Identifier: LGPL-2.1-or-later
#include "loader.h"

#include <algorithm>
#include <utility>

namespace agent {

using ckpt::Code;
using ckpt::make_error;
using ckpt::PagePlace;
using ckpt::Result;
using ckpt::Status;

Result<Places> Loader::places(std::size_t object, std::uint64_t first, std::uint64_t end) {
  Places places{source_.current(), object, {}};
  CKPT_ASSIGN(places.pages, places.opened->reader->places(object, first, end));
  return places;
}

Status Loader::look_up_again(Places& places, std::shared_ptr<Source::Opened> opened) const {
  for (PagePlace& page : places.pages) {
    CKPT_ASSIGN(auto found, opened->reader->places(places.object, page.page, page.page + 1));
    if (found.empty()) return make_error(Code::corrupt, "page " + std::to_string(page.page) + " has become zero");
    page = found.front();
  }
  places.opened = std::move(opened);
  return {};
}

Result<std::span<const std::uint8_t* const>> Loader::read(Places& places, std::size_t from, std::size_t limit,
                                                          std::size_t request_bytes) {
  auto opened = source_.current();
  if (places.opened != opened) CKPT_TRY(look_up_again(places, opened));
  if (opened_ != opened) {
    frames_ = opened->reader->frames(frames_kept_);
    opened_ = std::move(opened);
    told_ = {};
  }
  auto wanted = std::span(places.pages).subspan(from, std::min(limit, places.pages.size() - from));
  return frames_->read(wanted, request_bytes);
}

ckpt::StoreRequests Loader::requests() {
  if (!frames_) return {};
  const ckpt::StoreRequests all = frames_->requests(), before = std::exchange(told_, all);
  return {all.count - before.count, all.bytes - before.bytes, all.nanoseconds - before.nanoseconds};
}

bool Loader::has(const Places& places, std::size_t index) const {
  return frames_ && places.opened == opened_ && frames_->has(places.pages[index].place);
}

}  // namespace agent
