// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/compress.h"

#include <zstd.h>

#include <cstring>

#include "base/check.h"

namespace ckpt {

struct Compressor::Context {
  Context() : zstd(ZSTD_createCCtx()) { CKPT_CHECK(zstd != nullptr); }
  ~Context() { ZSTD_freeCCtx(zstd); }
  ZSTD_CCtx* zstd;
};

Compressor::Compressor(int level) : context_(std::make_unique<Context>()), level_(level) {}
Compressor::~Compressor() = default;
Compressor::Compressor(Compressor&&) noexcept = default;
Compressor& Compressor::operator=(Compressor&&) noexcept = default;

Codec Compressor::compress(ByteView raw, Bytes& out) {
  out.resize(ZSTD_compressBound(raw.size()));
  std::size_t n = ZSTD_compressCCtx(context_->zstd, out.data(), out.size(), raw.data(), raw.size(), level_);
  if (!ZSTD_isError(n) && n < raw.size()) {
    out.resize(n);
    return Codec::zstd;
  }
  out.assign(raw.begin(), raw.end());
  return Codec::stored;
}

Status decompress(Codec codec, ByteView payload, std::span<std::uint8_t> out) {
  if (codec == Codec::stored) {
    if (payload.size() != out.size()) return make_error(Code::corrupt, "stored frame of another length");
    std::memcpy(out.data(), payload.data(), out.size());
    return {};
  }
  struct Deleter {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  thread_local std::unique_ptr<ZSTD_DCtx, Deleter> context(ZSTD_createDCtx());
  CKPT_CHECK(context != nullptr);
  std::size_t n = ZSTD_decompressDCtx(context.get(), out.data(), out.size(), payload.data(), payload.size());
  if (ZSTD_isError(n) || n != out.size()) return make_error(Code::corrupt, "frame does not decompress");
  return {};
}

}  // namespace ckpt
