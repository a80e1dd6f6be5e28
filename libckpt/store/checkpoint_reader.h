// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>

#include "store/core.h"

namespace ckpt {

class StoredCheckpoint : public CheckpointReader {
public:
  static Result<std::unique_ptr<CheckpointReader>> open(std::shared_ptr<StoreCore> core, const CheckpointId& id);

  const CheckpointInfo& info() const override { return info_; }
  const EpochInfo& epoch() const override { return epoch_; }
  const std::vector<Object>& objects() const override { return objects_; }

  Status read(std::size_t object, std::uint64_t offset, std::span<std::uint8_t> out) override;
  Result<bool> read_page(std::size_t object, std::uint64_t page, std::span<std::uint8_t, page_size_bytes> out) override;
  Result<std::vector<PagePlace>> places(std::size_t object, std::uint64_t first, std::uint64_t end) override;
  Status prepare(std::size_t object, std::uint64_t first, std::uint64_t end) override;
  std::unique_ptr<FrameReader> frames(std::size_t kept) override;
  Result<std::vector<Extent>> extents(std::size_t object, std::uint64_t offset, std::uint64_t length,
                                      std::size_t limit) override;
  Result<std::vector<std::uint64_t>> changed_pages(std::size_t object, CheckpointReader& older) override;

private:
  StoredCheckpoint(std::shared_ptr<StoreCore> core, CheckpointHold hold, std::uint32_t domain)
      : core_(std::move(core)), hold_(std::move(hold)), domain_(domain), nodes_(*core_, domain) {}
  void fill(const Manifest& manifest);
  Status check_page(std::size_t object, std::uint64_t page) const;
  Status check_range(std::size_t object, std::uint64_t offset, std::uint64_t length) const;

  std::shared_ptr<StoreCore> core_;
  CheckpointHold hold_;
  std::uint32_t domain_;
  CachedNodes nodes_;
  CheckpointInfo info_;
  EpochInfo epoch_;
  std::vector<Object> objects_;
  std::vector<Tree> trees_;
};

}  // namespace ckpt
