// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <algorithm>
#include <vector>

#include "base/hash.h"
#include "format/compress.h"
#include "format/frame.h"

namespace ckpt {

// A frame on its way to a segment: compressed, but without ordinals and place yet.
struct FrameDraft {
  FrameHead head;
  Bytes payload;
};

// Gathers chunks and makes a draft of them.
class FrameBuilder {
public:
  bool empty() const { return head_.table.empty(); }
  std::size_t count() const { return head_.table.size(); }
  const std::vector<ChunkEntry>& chunks() const { return head_.table; }

  void add(ByteView data, const ChunkHash& hash) {
    head_.table.push_back({0, static_cast<std::uint32_t>(data.size()), hash});
    raw_.insert(raw_.end(), data.begin(), data.end());
  }

  // Every chunk before must be as long as this one.
  void replace(std::size_t slot, ByteView data, const ChunkHash& hash) {
    std::copy(data.begin(), data.end(), raw_.begin() + static_cast<std::ptrdiff_t>(slot * data.size()));
    head_.table[slot].hash = hash;
  }
  ByteView data(std::size_t slot) const {
    return ByteView(raw_).subspan(slot * head_.table[slot].length, head_.table[slot].length);
  }
  void clear() {
    head_ = {};
    raw_.clear();
  }

  // Leaves the builder empty.
  FrameDraft finish(Compressor& compressor) {
    FrameDraft draft;
    head_.codec = compressor.compress(raw_, draft.payload);
    head_.raw_length = static_cast<std::uint32_t>(raw_.size());
    head_.stored_length = static_cast<std::uint32_t>(draft.payload.size());
    draft.head = std::move(head_);
    head_ = {};
    raw_.clear();
    return draft;
  }

private:
  FrameHead head_;
  Bytes raw_;
};

}  // namespace ckpt
