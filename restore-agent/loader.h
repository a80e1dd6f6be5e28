// SPDX-License-Identifier: LGPL-2.1-or-later
//
// One thread's way to the pages of the checkpoint. It goes on where the source has been opened again.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "source.h"

namespace agent {

// What one leaf of the manifest's tree maps: looked up at once.
inline constexpr std::uint64_t leaf_pages = 64;

// Pages of one object that are not zero. Where they are holds for the opening they were looked up in only.
struct Places {
  std::shared_ptr<Source::Opened> opened;
  std::size_t object = 0;
  std::vector<ckpt::PagePlace> pages;
};

class Loader {
public:
  Loader(Source& source, std::size_t frames_kept) : source_(source), frames_kept_(frames_kept) {}

  // Those of [first, end), in order. Errors here and below as of Source.
  ckpt::Result<Places> places(std::size_t object, std::uint64_t first, std::uint64_t end);
  // pages[from] and as many of the `limit` from there on as came with it, as of FrameReader::read.
  ckpt::Result<std::span<const std::uint8_t* const>> read(Places& places, std::size_t from, std::size_t limit,
                                                          std::size_t request_bytes);
  // Whether read() has it without asking the store.
  bool has(const Places& places, std::size_t index) const;
  // What read() has asked of the store since this was called before.
  ckpt::StoreRequests requests();

private:
  ckpt::Status look_up_again(Places& places, std::shared_ptr<Source::Opened> opened) const;

  Source& source_;
  const std::size_t frames_kept_;
  std::shared_ptr<Source::Opened> opened_;  // that frames_ reads from
  std::unique_ptr<ckpt::FrameReader> frames_;
  ckpt::StoreRequests told_;  // of those that frames_ has made
};

}  // namespace agent
