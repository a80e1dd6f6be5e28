// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "store/core.h"
#include "store/page_packer.h"
#include "store/page_spill.h"
#include "store/tree_update.h"

namespace ckpt {

// An epoch under construction, and after its commit what the next one builds upon. Thread-safe: the next epoch looks
// into it, and so does reclaiming.
class EpochState : public std::enable_shared_from_this<EpochState> {
public:
  struct Base {
    std::optional<CommitRecord> parent;  // with its manifest and a hold on it
    Manifest manifest;
    CheckpointHold hold;
    std::shared_ptr<EpochState> closed;  // or this
  };

  static Result<std::shared_ptr<EpochState>> begin(std::shared_ptr<StoreCore> core, std::uint32_t machine,
                                                   std::uint32_t domain, std::uint64_t number, Base base,
                                                   const std::vector<Object>& objects);

  std::uint32_t machine() const { return machine_; }
  std::uint64_t number() const { return number_; }
  const StoreCore* core() const { return core_.get(); }
  Status write(std::size_t object, std::uint64_t offset, ByteView data);
  Status zero(std::size_t object, std::uint64_t offset, std::uint64_t length);
  Result<CheckpointInfo> commit(const EpochInfo& info);
  void abandon();

  // Every location that only this epoch keeps alive. An error: not all of them.
  Status each_location(const std::function<void(Location)>& visit);
  // Neither committed nor abandoned.
  bool is_open();
  // The checkpoint that it builds upon; of number 0 when there is none, or none yet.
  CheckpointHold settled_base();

private:
  enum class Phase { open, committed, abandoned };
  struct EpochObject {
    Object object;
    Tree base;                                 // of the parent
    std::optional<std::size_t> closed_object;  // in base_.closed
    std::uint64_t base_size = 0;
    PageMap pages;
    Tree tree;  // after the commit
  };

  EpochState(std::shared_ptr<StoreCore> core, std::uint32_t machine, std::uint32_t domain, std::uint64_t number);
  Status match_objects(const std::vector<Object>& objects);
  Status cut_tails();
  Status check_open() const;
  Status check_range(std::size_t object, std::uint64_t offset, std::uint64_t length) const;
  Status write_locked(std::size_t object, std::uint64_t offset, ByteView data);
  Status zero_locked(std::size_t object, std::uint64_t offset, std::uint64_t length);
  Status write_part(std::size_t object, std::uint64_t page, std::size_t from, ByteView data);
  Status zero_part(std::size_t object, std::uint64_t page, std::size_t from, std::size_t length);
  // Keeps the maps from outgrowing memory, whatever a client sends.
  Status spill();
  // What this epoch itself says of the page. Empty: not changed.
  Result<std::optional<Location>> changed(std::size_t object, std::uint64_t page);
  // What the page is now, in this epoch.
  Status page_now(std::size_t object, std::uint64_t page, std::span<std::uint8_t> out);
  Result<CheckpointInfo> commit_locked(const EpochInfo& info);
  Status settle_base();
  Result<CommitRecord> store_manifest(const EpochInfo& info);
  Result<CheckpointInfo> record(const CommitRecord& commit);
  Status keep(Status status);

  std::shared_ptr<StoreCore> core_;
  const std::uint32_t machine_;
  const std::uint32_t domain_;
  const std::uint64_t number_;

  std::mutex mutex_;
  Phase phase_ = Phase::open;
  std::optional<Error> error_;
  std::uint64_t failures_at_begin_ = 0;
  Base base_;
  std::vector<EpochObject> objects_;
  PagePacker packer_;
  PageSpill spill_;
  std::uint64_t data_bytes_ = 0;
  CheckpointHold own_hold_;
};

}  // namespace ckpt
