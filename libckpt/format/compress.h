// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>

#include "base/bytes.h"
#include "ckpt/result.h"
#include "format/frame.h"

namespace ckpt {

// Contexts are big and slow to make, so they are kept. One thread at a time.
class Compressor {
public:
  explicit Compressor(int level);
  ~Compressor();
  Compressor(Compressor&&) noexcept;
  Compressor& operator=(Compressor&&) noexcept;

  // The payload of a frame: compressed, or as it is where that does not help.
  Codec compress(ByteView raw, Bytes& out);

private:
  struct Context;
  std::unique_ptr<Context> context_;
  int level_;
};

// `out` has exactly the raw length that the frame's head states; anything else is corrupt.
Status decompress(Codec codec, ByteView payload, std::span<std::uint8_t> out);

}  // namespace ckpt
