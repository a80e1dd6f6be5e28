// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <vector>

#include "format/compress.h"
#include "store/frame_builder.h"
#include "store/page_map.h"
#include "store/segment_store.h"
#include "store/tree_update.h"

namespace ckpt {

// Makes chunks of pages: drops zeroes and what the store has, packs the rest into frames. Also stores nodes and
// manifests, which are not deduplicated. One thread at a time.
class PagePacker : public NodeSink {
public:
  PagePacker(SegmentStore& segments, const Secret& secret, int compression_level);

  // A whole page. Its location goes to `pages` now, or with the frame: see flush().
  Status add(std::size_t object, std::uint64_t page, ByteView data, PageMap& pages);
  // The page's bytes if it waits in the frame; empty otherwise.
  ByteView waiting(std::size_t object, std::uint64_t page) const;
  // Something else is known of the page now: what waits is not to overwrite it.
  void forget(std::size_t object, std::uint64_t first, std::uint64_t end);
  void forget(std::size_t object, std::uint64_t page) { forget(object, page, page + 1); }
  // Writes the frame that waits.
  Status flush();

  Result<std::vector<Location>> store_nodes(const std::vector<Node>& nodes) override;
  // In chunks at consecutive locations; returns the first.
  Result<Location> store_run(ByteView data);

  std::uint64_t stored_bytes() const { return stored_bytes_; }

private:
  struct Waiting {
    std::size_t object = 0;
    std::uint64_t page = 0;
    std::size_t slot = 0;
    PageMap* pages = nullptr;
  };

  SegmentStore& segments_;
  Secret secret_;
  Compressor compressor_;
  FrameBuilder builder_;
  std::vector<Waiting> waiting_;
  std::uint64_t stored_bytes_ = 0;
};

}  // namespace ckpt
