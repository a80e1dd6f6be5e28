// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/figures.h"

#include <algorithm>
#include <vector>

namespace ckptd {

namespace {

constexpr std::size_t window_epochs = 100;

}  // namespace

void Figures::add(const ckpt::EpochFigures& epoch) {
  pauses_us_.push_back(epoch.pause_us);
  if (pauses_us_.size() > window_epochs) pauses_us_.pop_front();
  previous_wall_clock_ns_ = last_.wall_clock_ns;
  last_ = epoch;
  ++epochs_total_;
}

std::uint32_t Figures::pause_percentile_us(unsigned percent) const {
  if (pauses_us_.empty()) return 0;
  std::vector<std::uint32_t> sorted(pauses_us_.begin(), pauses_us_.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted[(sorted.size() - 1) * percent / 100];
}

std::uint64_t Figures::effective_interval_ms() const {
  if (previous_wall_clock_ns_ == 0 || last_.wall_clock_ns <= previous_wall_clock_ns_) return 0;
  return (last_.wall_clock_ns - previous_wall_clock_ns_) / 1'000'000;
}

}  // namespace ckptd
