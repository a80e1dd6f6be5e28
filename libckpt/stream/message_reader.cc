// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/message_reader.h"

#include <algorithm>

namespace ckpt {

Status MessageReader::feed(ByteView bytes, const Sink& sink) {
  for (;;) {
    std::size_t wanted = wanted_bytes();
    ByteView part;
    if (partial_.empty() && bytes.size() >= wanted) {
      part = bytes.first(wanted);
      bytes = bytes.subspan(wanted);
    } else {
      std::size_t count = std::min(wanted - partial_.size(), bytes.size());
      partial_.insert(partial_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
      bytes = bytes.subspan(count);
      if (partial_.size() < wanted) return {};
      part = partial_;
    }
    Status status;
    if (header_) {
      wire::Header header = *header_;
      header_.reset();
      status = sink(header, part);
    } else {
      status = take_header(part);
    }
    partial_.clear();
    CKPT_TRY(status);
  }
}

Status MessageReader::take_header(ByteView bytes) {
  CKPT_ASSIGN(wire::Header header, wire::decode_header(bytes));
  if (header.sequence != next_sequence_)
    return make_error(Code::protocol, "message " + std::to_string(next_sequence_) + " was due, and " +
                                          std::to_string(header.sequence) +
                                          " came: one was lost, repeated or put between");
  ++next_sequence_;
  header_ = header;
  return {};
}

std::size_t MessageReader::missing_bytes() const {
  if (!header_ && partial_.empty()) return 0;
  return wanted_bytes() - partial_.size();
}

}  // namespace ckpt
