// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A block's pages that are not zero as a store keeps them, compressed in frames, but in memory: what whoever fills a
// guest from a store cannot be faster than.
#pragma once

#include <cstdint>
#include <vector>

#include "guest_memory.h"

namespace bench {

class PackedPages {
public:
  struct Frame {
    std::vector<std::uint64_t> pages;
    std::vector<std::uint8_t> bytes;
  };

  explicit PackedPages(const Block& block);

  const std::vector<Frame>& frames() const { return frames_; }
  // Its place among the pages of its frame is `index`.
  const Frame& frame_of(std::uint64_t page, std::size_t& index) const;
  // Any thread: page i of the frame lies at i × page_bytes, valid until this thread's next call.
  static const std::uint8_t* unpack(const Frame& frame);

private:
  std::vector<Frame> frames_;
};

}  // namespace bench
