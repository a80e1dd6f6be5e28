// SPDX-License-Identifier: LGPL-2.1-or-later
#include "local_session.h"

#include <algorithm>
#include <utility>

namespace ckpt::tools {
namespace {

constexpr std::size_t pump_bytes = 1 << 20;

}  // namespace

Status LocalSession::settle() { return settle_in_pieces(pump_bytes); }

Status LocalSession::settle_in_pieces(std::size_t piece) {
  for (;;) {
    client_.pump(pump_bytes);
    Bytes up = std::exchange(client_.output(), {});
    for (std::size_t at = 0; at < up.size(); at += piece)
      CKPT_TRY(receiver_.feed(ByteView(up).subspan(at, std::min(piece, up.size() - at))));
    Bytes down = std::exchange(receiver_.output(), {});
    if (up.empty() && down.empty()) return {};
    CKPT_TRY(client_.feed(down));
  }
}

Status LocalSession::take(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    CKPT_TRY(settle());
    std::uint64_t before = client_.acked_epoch();
    if (!receiver_.take()) return make_error(Code::invalid, "the receiver takes no checkpoint now");
    CKPT_TRY(settle());
    if (client_.acked_epoch() == before)
      return make_error(Code::invalid, "a checkpoint was asked for and did not come");
  }
  return {};
}

}  // namespace ckpt::tools
