// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/frame_reader.h"

#include <algorithm>

namespace ckpt {

std::size_t StoredFrames::find(Location location) const {
  std::uint32_t ordinal = ordinal_of(location);
  auto at = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) {
    if (kept.segment == 0 || kept.segment != segment_of(location)) return false;
    const auto& table = kept.frame.table;
    return ordinal >= table.front().ordinal && ordinal <= table.back().ordinal &&
           kept.frame.find(ordinal) < table.size();
  });
  return static_cast<std::size_t>(at - kept_.begin());
}

Result<std::size_t> StoredFrames::load(std::span<const PagePlace> pages, std::size_t request_bytes) {
  auto oldest = std::min_element(kept_.begin(), kept_.end(),
                                 [](const Kept& one, const Kept& other) { return one.used < other.used; });
  oldest->segment = 0;
  CKPT_TRY(core_.segments.read_frame(pages, request_bytes, run_, oldest->frame));
  oldest->segment = segment_of(pages.front().place);
  return static_cast<std::size_t>(oldest - kept_.begin());
}

const std::uint8_t* StoredFrames::page_of(const DecodedFrame& frame, std::size_t index) {
  ByteView bytes = frame.chunk(index);
  if (!core_.keys.matches(bytes, frame.table[index].hash, domain_)) return nullptr;
  if (bytes.size() == page_size_bytes) return bytes.data();
  std::copy(bytes.begin(), bytes.end(), short_page_.begin());
  std::fill(short_page_.begin() + static_cast<std::ptrdiff_t>(bytes.size()), short_page_.end(), std::uint8_t{0});
  return short_page_.data();
}

Result<std::span<const std::uint8_t* const>> StoredFrames::read(std::span<const PagePlace> pages,
                                                                std::size_t request_bytes) {
  if (pages.empty()) return make_error(Code::invalid, "no pages to read");
  Location first = pages.front().place;
  std::size_t at = find(first);
  if (at == kept_.size()) {
    CKPT_ASSIGN(at, load(pages, request_bytes));
  }
  Kept& kept = kept_[at];
  kept.used = ++uses_;
  pages_.clear();
  for (const PagePlace& wanted : pages) {
    std::size_t index = kept.frame.find(ordinal_of(wanted.place));
    if (segment_of(wanted.place) != kept.segment || index == kept.frame.table.size()) break;
    const std::uint8_t* page = page_of(kept.frame, index);
    if (page == nullptr) break;
    pages_.push_back(page);
    if (page == short_page_.data()) break;  // there is room for one
  }
  if (pages_.empty()) {
    core_.segments.distrust(first);
    // Who asks again wants to know what is there then.
    kept.segment = 0;
    run_.forget();
    return make_error(Code::corrupt, place_of(first) + ": content does not match its hash");
  }
  return std::span<const std::uint8_t* const>(pages_);
}

}  // namespace ckpt
