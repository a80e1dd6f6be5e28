// SPDX-License-Identifier: LGPL-2.1-or-later
#include <charconv>

#include "ckpt/store.h"

namespace ckpt {

std::string to_string(const CheckpointId& id) { return id.machine + "@" + std::to_string(id.number); }

Result<CheckpointId> parse_checkpoint_id(std::string_view text) {
  CheckpointId id;
  std::size_t at = text.rfind('@');
  if (at != std::string_view::npos) {
    id.machine = text.substr(0, at);
    const char* end = text.data() + text.size();
    auto [rest, error] = std::from_chars(text.data() + at + 1, end, id.number);
    if (error != std::errc() || rest != end) id.number = 0;
  }
  if (id.machine.empty() || id.number == 0)
    return make_error(Code::invalid, "'" + std::string(text) + "' is no checkpoint: give NAME@NUMBER");
  return id;
}

}  // namespace ckpt
