// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <deque>

#include "ckpt/stream.h"

namespace ckptd {

// What the last epochs of a machine cost.
class Figures {
public:
  void add(const ckpt::EpochFigures& epoch);

  // Of the last 100 epochs, 0 when there is none.
  std::uint32_t pause_percentile_us(unsigned percent) const;
  // Between the last two pauses; 0 before there are two.
  std::uint64_t effective_interval_ms() const;
  const ckpt::EpochFigures& last() const { return last_; }
  std::uint64_t epochs_total() const { return epochs_total_; }

private:
  std::deque<std::uint32_t> pauses_us_;
  ckpt::EpochFigures last_;
  std::uint64_t previous_wall_clock_ns_ = 0;
  std::uint64_t epochs_total_ = 0;
};

}  // namespace ckptd
