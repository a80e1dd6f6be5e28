// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whether to look again and again for the next message before sleeping: it saves a wake-up where messages come in a
// row, and is a waste where they do not, or where who would send one cannot run meanwhile.
#pragma once

#include <algorithm>
#include <chrono>

namespace agent {

class Spin {
public:
  explicit Spin(unsigned cpus) : possible_(cpus > 1) {}

  // How long.
  std::chrono::nanoseconds time() const {
    return possible_ && sleeps_left_ == 0 ? std::chrono::microseconds(50) : std::chrono::microseconds(0);
  }
  // A message came in that time.
  void paid() { missed_ = 0; }
  // None did, or there was no such time: the thread sleeps.
  void slept() {
    if (sleeps_left_ > 0) {
      --sleeps_left_;
      return;
    }
    missed_ = std::min(missed_ + 1, 6u);
    sleeps_left_ = 1u << missed_;
  }

private:
  const bool possible_;
  unsigned missed_ = 0;       // times in a row
  unsigned sleeps_left_ = 0;  // before it is tried again
};

}  // namespace agent
