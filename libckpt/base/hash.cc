// SPDX-License-Identifier: LGPL-2.1-or-later
#define XXH_INLINE_ALL
#include "base/hash.h"

#include <xxhash.h>

#include <algorithm>

namespace ckpt {

ChunkHash chunk_hash(ByteView data, const Secret& secret) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSecret(data.data(), data.size(), secret.data(), secret.size()));
  ChunkHash hash;
  std::memcpy(hash.bytes.data(), canonical.digest, hash.bytes.size());
  return hash;
}

std::uint64_t checksum(ByteView data, std::uint64_t seed) {
  return XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

std::uint64_t checksum(ByteView first, ByteView second, std::uint64_t seed) {
  // Most are heads of frames. What a stream of two pieces needs to begin takes longer than they do.
  std::array<std::uint8_t, 240> both;
  if (first.size() + second.size() <= both.size()) {
    std::copy(second.begin(), second.end(), std::copy(first.begin(), first.end(), both.begin()));
    return checksum(ByteView(both).first(first.size() + second.size()), seed);
  }
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset_withSeed(&state, seed);
  XXH3_64bits_update(&state, first.data(), first.size());
  XXH3_64bits_update(&state, second.data(), second.size());
  return XXH3_64bits_digest(&state);
}

bool is_zero(ByteView data) {
  // Compares the range with itself shifted by one: memcmp is the fastest thing that is portable.
  return data.empty() || (data[0] == 0 && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

}  // namespace ckpt
