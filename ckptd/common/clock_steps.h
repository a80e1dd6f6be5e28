// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

namespace ckptd {

// Whether the host's clock can be believed: the time of day is held against the time since boot, which nobody sets.
class ClockSteps {
public:
  static constexpr std::int64_t step_ms = 5'000;      // NTP's slewing stays far below it, from look to look
  static constexpr std::int64_t settle_ms = 600'000;  // whoever set it wrongly has so long to notice

  // To be called again and again. False for `settle_ms` after the time of day has been set.
  bool steady(std::int64_t time_of_day_ms, std::int64_t since_boot_ms) {
    std::int64_t offset_ms = time_of_day_ms - since_boot_ms;
    std::int64_t moved_ms = known_ ? offset_ms - offset_ms_ : 0;
    if (moved_ms > step_ms || moved_ms < -step_ms) {
      last_step_ms_ = moved_ms;
      settled_at_ms_ = since_boot_ms + settle_ms;
    }
    known_ = true;
    offset_ms_ = offset_ms;
    return since_boot_ms >= settled_at_ms_;
  }
  std::int64_t last_step_ms() const { return last_step_ms_; }

private:
  bool known_ = false;
  std::int64_t offset_ms_ = 0;
  std::int64_t last_step_ms_ = 0;
  std::int64_t settled_at_ms_ = 0;
};

}  // namespace ckptd
