// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <array>
#include <vector>

#include "store/core.h"
#include "store/frame_run.h"

namespace ckpt {

class StoredFrames : public FrameReader {
public:
  // Does not outlive `core`. `kept`: so many frames stay decompressed.
  StoredFrames(StoreCore& core, std::uint32_t domain, std::size_t kept) : core_(core), domain_(domain), kept_(kept) {}

  Result<std::span<const std::uint8_t* const>> read(std::span<const PagePlace> pages,
                                                    std::size_t request_bytes) override;
  bool has(std::uint64_t place) const override { return run_.has(place) || find(place) != kept_.size(); }
  StoreRequests requests() const override { return run_.requests(); }

private:
  struct Kept {
    std::uint64_t segment = 0;  // 0: nothing yet
    std::uint64_t used = 0;     // when; larger is later
    DecodedFrame frame;
  };

  // Its index in kept_; the size of that when it is not there.
  std::size_t find(Location location) const;
  Result<std::size_t> load(std::span<const PagePlace> pages, std::size_t request_bytes);
  // The chunk's bytes, as a whole page. Null: they are not what the chunk's name says.
  const std::uint8_t* page_of(const DecodedFrame& frame, std::size_t index);

  StoreCore& core_;
  std::uint32_t domain_;
  std::vector<Kept> kept_;
  std::uint64_t uses_ = 0;
  FrameRun run_;
  std::vector<const std::uint8_t*> pages_;
  std::array<std::uint8_t, page_size_bytes> short_page_;
};

}  // namespace ckpt
