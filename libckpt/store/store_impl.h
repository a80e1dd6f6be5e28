// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>

#include "store/core.h"
#include "store/epoch_state.h"
#include "store/reclaim.h"

namespace ckpt {

class StoreImpl : public Store {
public:
  explicit StoreImpl(std::shared_ptr<StoreCore> core) : core_(std::move(core)), reclaimer_(*core_) {}

  Status add_machine(const std::string& name, const std::array<std::uint8_t, 16>& uuid) override;
  std::vector<MachineInfo> machines() const override;
  Status forget_machine(const std::string& name) override;
  Result<std::vector<CheckpointInfo>> checkpoints(const std::string& machine) const override;
  Result<CheckpointInfo> checkpoint(const CheckpointId& id) const override;
  Result<std::unique_ptr<EpochWriter>> begin_epoch(const std::string& machine, std::uint64_t number,
                                                   const EpochBase& base, const std::vector<Object>& objects) override;
  Result<std::unique_ptr<CheckpointReader>> open_checkpoint(const CheckpointId& id) override;
  Status remove(const std::string& machine, std::span<const std::uint64_t> numbers) override;
  Status name(const CheckpointId& id, const std::string& name) override;
  Status pin(const CheckpointId& id, const std::string& holder) override;
  Status unpin(const CheckpointId& id, const std::string& holder) override;
  Result<std::uint64_t> collect() override { return reclaimer_.collect(); }
  Result<Verification> verify(std::span<const CheckpointId> ids, bool (*progress)(void* context, const VerifyProgress&),
                              void* context) override;
  std::vector<std::string> undermined(std::span<const Damage> damages) override;
  StoreStats stats() const override;
  Status refresh() override;

private:
  Result<EpochState::Base> find_base(const EpochBase& base) const;
  Status set_pin(const CheckpointId& id, const std::string& holder, bool pinned);

  std::shared_ptr<StoreCore> core_;
  Reclaimer reclaimer_;
};

}  // namespace ckpt
