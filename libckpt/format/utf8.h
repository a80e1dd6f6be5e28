// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstddef>
#include <string_view>

namespace ckpt {

// Text from a peer ends up in JSON, on terminals and in file names: what is not UTF-8 (overlong forms, surrogates and
// values past U+10FFFF included) stays outside.
bool is_utf8(std::string_view text);

bool has_control_characters(std::string_view text);

// As much of `text` as `limit_bytes` hold, cut between characters when it is UTF-8.
std::string_view utf8_prefix(std::string_view text, std::size_t limit_bytes);

}  // namespace ckpt
