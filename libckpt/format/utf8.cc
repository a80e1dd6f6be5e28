// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/utf8.h"

#include <algorithm>
#include <cstdint>

namespace ckpt {
namespace {

struct Lead {
  std::uint8_t mask;
  std::uint8_t value;
  int following;
  std::uint32_t smallest;
};

constexpr Lead leads[] = {
    {0x80, 0x00, 0, 0},
    {0xE0, 0xC0, 1, 0x80},
    {0xF0, 0xE0, 2, 0x800},
    {0xF8, 0xF0, 3, 0x10000},
};

}  // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    auto first = static_cast<std::uint8_t>(text[at++]);
    const Lead* lead = std::find_if(std::begin(leads), std::end(leads),
                                    [&](const Lead& candidate) { return (first & candidate.mask) == candidate.value; });
    if (lead == std::end(leads)) return false;
    std::uint32_t point = first & static_cast<std::uint8_t>(~lead->mask);
    for (int i = 0; i < lead->following; ++i) {
      if (at == text.size()) return false;
      auto next = static_cast<std::uint8_t>(text[at++]);
      if ((next & 0xC0) != 0x80) return false;
      point = point << 6 | (next & 0x3Fu);
    }
    bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    if (point < lead->smallest || point > 0x10FFFF || surrogate) return false;
  }
  return true;
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    auto byte = static_cast<std::uint8_t>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

std::string_view utf8_prefix(std::string_view text, std::size_t limit_bytes) {
  if (text.size() <= limit_bytes) return text;
  std::size_t end = limit_bytes;
  // A character is at most four bytes long, and what is none is cut where the limit is.
  for (int i = 0; i < 4 && end > 0; ++i, --end)
    if ((static_cast<std::uint8_t>(text[end]) & 0xC0) != 0x80) return text.substr(0, end);
  return text.substr(0, limit_bytes);
}

}  // namespace ckpt
