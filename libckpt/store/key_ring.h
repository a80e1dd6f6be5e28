// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <shared_mutex>

#include "base/hash.h"

namespace ckpt {

// The secrets of all domains of a store. Thread-safe.
class KeyRing {
public:
  void add(std::uint32_t domain, const Secret& secret) {
    std::unique_lock lock(mutex_);
    secrets_[domain] = secret;
  }

  // The chunk is what its name says. Chunks of a machine's first checkpoints may belong to the machine it was cloned
  // from, so every domain is asked, the likely one first.
  bool matches(ByteView data, const ChunkHash& hash, std::uint32_t likely) const {
    std::shared_lock lock(mutex_);
    auto first = secrets_.find(likely);
    if (first != secrets_.end() && chunk_hash(data, first->second) == hash) return true;
    for (const auto& [domain, secret] : secrets_) {
      if (domain != likely && chunk_hash(data, secret) == hash) return true;
    }
    return false;
  }

private:
  mutable std::shared_mutex mutex_;
  std::map<std::uint32_t, Secret> secrets_;
};

}  // namespace ckpt
