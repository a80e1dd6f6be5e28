// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/store_impl.h"
#include "store/verify.h"

namespace ckpt {

Result<Verification> StoreImpl::verify(std::span<const CheckpointId> ids,
                                       bool (*progress)(void* context, const VerifyProgress&), void* context) {
  std::vector<CommitRecord> commits;
  std::vector<CheckpointHold> holds;
  {
    std::shared_lock guard(core_->catalog_mutex);
    for (const CheckpointId& id : ids) {
      CKPT_ASSIGN(const CheckpointEntry* entry, core_->catalog.find(id));
      commits.push_back(entry->commit);
    }
    for (const auto& [id, machine] : core_->catalog.machines()) {
      for (const auto& [number, entry] : machine.checkpoints) {
        if (ids.empty()) commits.push_back(entry.commit);
      }
    }
    for (const CommitRecord& commit : commits) holds.emplace_back(core_, commit);
  }
  return Verifier(*core_, progress, context).run(commits);
}

}  // namespace ckpt
