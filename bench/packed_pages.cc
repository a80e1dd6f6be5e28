// SPDX-License-Identifier: LGPL-2.1-or-later
#include "packed_pages.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <span>

namespace bench {

namespace {

constexpr std::size_t frame_pages = 4;  // as libckpt/store/page_packer.cc has it
constexpr int level = 1;

}  // namespace

PackedPages::PackedPages(const Block& block) {
  std::vector<std::uint64_t> pages = data_pages(block);
  std::vector<std::uint8_t> raw;
  for (std::size_t at = 0; at < pages.size(); at += frame_pages) {
    auto part = std::span(pages).subspan(at, std::min(frame_pages, pages.size() - at));
    raw.clear();
    for (std::uint64_t page : part)
      raw.insert(raw.end(), block.image + page * page_bytes, block.image + (page + 1) * page_bytes);
    Frame frame{{part.begin(), part.end()}, std::vector<std::uint8_t>(ZSTD_compressBound(raw.size()))};
    std::size_t n = ZSTD_compress(frame.bytes.data(), frame.bytes.size(), raw.data(), raw.size(), level);
    if (ZSTD_isError(n)) fail_plain("zstd");
    frame.bytes.resize(n);
    frame.bytes.shrink_to_fit();
    frames_.push_back(std::move(frame));
  }
}

const PackedPages::Frame& PackedPages::frame_of(std::uint64_t page, std::size_t& index) const {
  auto after = std::upper_bound(frames_.begin(), frames_.end(), page,
                                [](std::uint64_t wanted, const Frame& frame) { return wanted < frame.pages.front(); });
  if (after == frames_.begin()) fail_plain("no such page");
  const Frame& frame = *std::prev(after);
  auto at = std::find(frame.pages.begin(), frame.pages.end(), page);
  if (at == frame.pages.end()) fail_plain("no such page");
  index = static_cast<std::size_t>(at - frame.pages.begin());
  return frame;
}

const std::uint8_t* PackedPages::unpack(const Frame& frame) {
  struct Deleter {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  thread_local std::unique_ptr<ZSTD_DCtx, Deleter> context(ZSTD_createDCtx());
  thread_local std::array<std::uint8_t, frame_pages * page_bytes> raw;
  std::size_t n = ZSTD_decompressDCtx(context.get(), raw.data(), raw.size(), frame.bytes.data(), frame.bytes.size());
  if (n != frame.pages.size() * page_bytes) fail_plain("zstd");
  return raw.data();
}

}  // namespace bench
