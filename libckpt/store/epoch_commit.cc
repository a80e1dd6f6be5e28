// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How an epoch becomes a checkpoint. The order is the promise: frames, nodes and manifest are durable, then the record.
#include "store/epoch_state.h"

namespace ckpt {

Result<CheckpointInfo> EpochState::commit(const EpochInfo& info) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(check_open());
  auto result = commit_locked(info);
  if (!result) (void)keep(Status(result.error()));
  return result;
}

Result<CheckpointInfo> EpochState::commit_locked(const EpochInfo& info) {
  if (info.qemu_version.size() > max_info_string_bytes || info.machine_type.size() > max_info_string_bytes) {
    return make_error(Code::invalid, "version or machine type of more than 1024 bytes");
  }
  if (info.run_state != RunState::running && info.run_state != RunState::paused && info.run_state != RunState::other) {
    return make_error(Code::invalid, "unknown run state");
  }
  CKPT_TRY(settle_base());
  CKPT_TRY(cut_tails());
  CKPT_TRY(packer_.flush());
  BaseNodes nodes(*core_, domain_);
  for (std::size_t i = 0; i < objects_.size(); ++i) {
    EpochObject& entry = objects_[i];
    unsigned height = tree_height(pages_of(entry.object.size_bytes));
    entry.tree = entry.base;
    auto apply = [&](const PageMap& pages) -> Status {
      CKPT_ASSIGN(entry.tree, update_tree(nodes, entry.tree, pages, height, packer_));
      return {};
    };
    CKPT_TRY(spill_.each_run(i, apply));
    CKPT_TRY(apply(entry.pages));
  }
  CKPT_ASSIGN(CommitRecord commit, store_manifest(info));
  CKPT_TRY(core_->segments.sync());
  CKPT_TRY(check_open());  // a failure elsewhere may have taken what this epoch wrote
  CKPT_ASSIGN(CheckpointInfo made, record(commit));
  phase_ = Phase::committed;
  for (EpochObject& entry : objects_) entry.pages = PageMap();
  spill_.clear();
  base_ = {};
  return made;
}

// An epoch that builds upon a closed one needs it to be a checkpoint by now.
Status EpochState::settle_base() {
  if (!base_.closed) return {};
  std::lock_guard lock(base_.closed->mutex_);
  if (base_.closed->phase_ != Phase::committed) {
    return make_error(Code::invalid, "the epoch before this one has not been committed");
  }
  base_.parent = base_.closed->own_hold_.commit();
  for (EpochObject& entry : objects_) {
    if (entry.closed_object) entry.base = base_.closed->objects_[*entry.closed_object].tree;
  }
  return {};
}

Result<CommitRecord> EpochState::store_manifest(const EpochInfo& info) {
  Manifest manifest;
  manifest.wall_clock_ns = info.wall_clock_ns;
  manifest.vm_clock_ns = info.vm_clock_ns;
  manifest.run_state = info.run_state;
  manifest.pause_us = info.pause_us;
  manifest.qemu_version = info.qemu_version;
  manifest.machine_type = info.machine_type;
  for (const EpochObject& entry : objects_) {
    manifest.objects.push_back({entry.object, entry.tree.height, entry.tree.root});
  }
  Bytes bytes;
  encode_manifest(bytes, manifest);
  if (bytes.size() > max_manifest_bytes) return make_error(Code::limit, "manifest of more than 2 MiB");
  CommitRecord commit;
  commit.machine = machine_;
  commit.number = number_;
  if (base_.parent) {
    commit.parent_machine = base_.parent->machine;
    commit.parent_number = base_.parent->number;
  }
  commit.wall_clock_ns = info.wall_clock_ns;
  commit.manifest_length = static_cast<std::uint32_t>(bytes.size());
  commit.application_consistent = info.application_consistent;
  commit.frozen = info.frozen;
  commit.instance = info.instance;
  commit.data_bytes = data_bytes_;
  CKPT_ASSIGN(commit.manifest, packer_.store_run(bytes));
  commit.stored_bytes = packer_.stored_bytes();
  return commit;
}

Result<CheckpointInfo> EpochState::record(const CommitRecord& commit) {
  std::lock_guard guard(core_->commit_mutex);
  {
    std::shared_lock catalog(core_->catalog_mutex);
    const MachineEntry* machine = core_->catalog.find_machine(machine_);
    if (machine == nullptr) return make_error(Code::not_found, "the machine has been removed from the store");
    if (number_ <= machine->last_number) {
      return make_error(Code::invalid,
                        to_string({machine->record.name, number_}) + " is older than the machine's newest checkpoint");
    }
  }
  // Held before it exists, so that nothing comes between its commit and what builds upon it.
  CheckpointHold hold(core_, commit);
  CKPT_TRY(core_->write_record(commit));
  core_->live.committed(commit);
  own_hold_ = std::move(hold);
  std::shared_lock catalog(core_->catalog_mutex);
  return core_->catalog.info(*core_->catalog.find(CheckpointKey{machine_, number_}));
}

}  // namespace ckpt
