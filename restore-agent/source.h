// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The checkpoint as the agent reads it: a store that may go away and come back, under one checkpoint that must stay
// the same one.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "ckpt/env.h"
#include "ckpt/store.h"

namespace agent {

// Whether what failed may succeed once the store is back: damage stays, and so does what was never right. A store or a
// checkpoint that is not there is only away when it `was_there` before.
bool may_pass(const ckpt::Error& error, bool was_there = true);

class Source {
public:
  // Errors as of Store::open and Store::open_checkpoint.
  static ckpt::Result<std::unique_ptr<Source>> open(const std::string& store, const ckpt::CheckpointId& id,
                                                    ckpt::Env& env = ckpt::Env::system());

  // As the checkpoint said when it was first opened.
  const std::vector<ckpt::Object>& objects() const { return objects_; }

  // The store as it is open now. The reader goes before the store it reads from.
  struct Opened {
    std::unique_ptr<ckpt::Store> store;
    std::unique_ptr<ckpt::CheckpointReader> reader;
  };
  std::shared_ptr<Opened> current();

  // As of CheckpointReader. An error other than corrupt may pass once reopen() has succeeded.
  ckpt::Status read(std::size_t object, std::uint64_t offset, std::span<std::uint8_t> out);
  ckpt::Result<std::vector<ckpt::Extent>> extents(std::size_t object, std::uint64_t offset, std::uint64_t length,
                                                  std::size_t limit);

  // As of CheckpointReader: pages of [first, end).
  ckpt::Status prepare(std::size_t object, std::uint64_t first, std::uint64_t end);
  // Pages of `object` that the checkpoint has otherwise than its ancestor `generations` back; empty when there is
  // no such ancestor any more.
  ckpt::Result<std::vector<std::uint64_t>> changed_pages(std::size_t object, unsigned generations);

  // After a failed read: opens the store again, at most four times a second; the checkpoint must be the one that it
  // was. Damage is not cured by that, and others who read must not wait for it: then nothing is done.
  ckpt::Status reopen(const ckpt::Error& why);

private:
  Source(ckpt::Env& env, std::string path, ckpt::CheckpointId id)
      : env_(env), path_(std::move(path)), id_(std::move(id)) {}
  ckpt::Result<std::shared_ptr<Opened>> open_now() const;

  ckpt::Env& env_;
  const std::string path_;
  const ckpt::CheckpointId id_;
  std::vector<ckpt::Object> objects_;
  ckpt::CheckpointInfo info_;
  std::mutex lock_;  // protects what follows
  std::shared_ptr<Opened> opened_;
  std::chrono::steady_clock::time_point reopened_at_;
};

}  // namespace agent
