// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Latencies in buckets that grow by an eighth: percentiles to 12 %, from any thread, without a lock.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace agent {

class Histogram {
public:
  void add(std::uint64_t value) {
    buckets_[bucket_of(value)].fetch_add(1, std::memory_order_relaxed);
    std::uint64_t seen = max_.load(std::memory_order_relaxed);
    while (value > seen && !max_.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
    }
  }

  std::uint64_t count() const {
    std::uint64_t sum = 0;
    for (const auto& bucket : buckets_) sum += bucket.load(std::memory_order_relaxed);
    return sum;
  }
  std::uint64_t max() const { return max_.load(std::memory_order_relaxed); }

  // Upper bound of the bucket that holds this share of all values; 0 without any.
  std::uint64_t percentile(double share) const {
    auto rank = static_cast<std::uint64_t>(share * static_cast<double>(count()));
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      sum += buckets_[i].load(std::memory_order_relaxed);
      if (sum > rank) return upper_of(i) < max() ? upper_of(i) : max();
    }
    return max();
  }

private:
  // Values below 8 have a bucket each; then 8 buckets for each power of two.
  static std::size_t bucket_of(std::uint64_t value) {
    if (value < 8) return value;
    auto power = static_cast<unsigned>(std::bit_width(value)) - 1;
    return (power - 2) * 8 + ((value >> (power - 3)) & 7);
  }
  static std::uint64_t upper_of(std::size_t bucket) {
    if (bucket < 8) return bucket;
    std::size_t power = bucket / 8 + 2;
    return ((8 + bucket % 8 + 1) << (power - 3)) - 1;
  }

  std::array<std::atomic<std::uint64_t>, 62 * 8> buckets_{};
  std::atomic<std::uint64_t> max_{0};
};

}  // namespace agent
