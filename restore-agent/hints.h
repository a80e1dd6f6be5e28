// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where faults were, for whoever fetches ahead: the newest first, the oldest forgotten.
#pragma once

#include <deque>
#include <mutex>
#include <optional>

#include "memory_map.h"

namespace agent {

class Hints {
public:
  void push(const UnitId& id) {
    std::lock_guard guard(lock_);
    hints_.push_front(id);
    if (hints_.size() > limit) hints_.pop_back();
  }

  std::optional<UnitId> pop() {
    std::lock_guard guard(lock_);
    if (hints_.empty()) return std::nullopt;
    UnitId id = hints_.front();
    hints_.pop_front();
    return id;
  }

private:
  static constexpr std::size_t limit = 256;
  std::mutex lock_;
  std::deque<UnitId> hints_;
};

}  // namespace agent
