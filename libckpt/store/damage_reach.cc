// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which machines are about to build upon damage. Since it was found nothing new takes of it, so only what had begun
// before is looked at.
#include "store/damage_reach.h"

#include <algorithm>

#include "store/store_impl.h"

namespace ckpt {

DamageReach::DamageReach(StoreCore& core, std::span<const Damage> damages) : core_(core) {
  std::set<std::uint64_t> whole;
  for (const Damage& damage : damages) {
    auto frame = core_.segments.frame_of(damage.location);
    if (frame) frames_[segment_of(damage.location)].insert(frame->first);
    if (!frame) whole.insert(segment_of(damage.location));
  }
  for (std::uint64_t segment : whole) frames_[segment].clear();
}

bool DamageReach::from(Location location) {
  auto damaged = frames_.find(segment_of(location));
  if (location == 0 || damaged == frames_.end()) return false;
  if (damaged->second.empty()) return true;
  auto frame = core_.segments.frame_of(location);
  return !frame || damaged->second.contains(frame->first);
}

bool DamageReach::from(const CommitRecord& commit) {
  std::uint64_t chunks = (commit.manifest_length + max_chunk_bytes - 1) / max_chunk_bytes;
  for (std::uint64_t i = 0; i < chunks; ++i) {
    if (from(commit.manifest + i)) return true;
  }
  auto manifest = core_.read_manifest(commit);
  StoredNodes nodes(core_, core_.domain_of(commit.machine));
  return !manifest || std::any_of(manifest->objects.begin(), manifest->objects.end(), [&](const ManifestObject& entry) {
    return from_tree(entry.root, entry.height, nodes);
  });
}

bool DamageReach::from_tree(Location location, unsigned level, StoredNodes& nodes) {
  if (location == 0 || level == 0) return from(location);
  if (clear_.contains(location, level)) return false;
  if (from(location)) return true;
  auto node = nodes.load_node(location);
  if (!node) return true;
  for (Location child : *node) {
    if (from_tree(child, level - 1, nodes)) return true;
  }
  clear_.insert(location, level);
  return false;
}

std::vector<std::string> StoreImpl::undermined(std::span<const Damage> damages) {
  if (damages.empty()) return {};
  DamageReach reach(*core_, damages);
  // Of a machine with epochs under way these are what counts: they may be a copy of everything. One that is committed
  // while it is looked at is in the newest checkpoint afterwards.
  std::map<std::uint32_t, bool> machines;
  for (const auto& epoch : core_->epochs()) {
    CheckpointHold base = epoch->settled_base();
    bool reached = base.commit().number != 0 && reach.from(base.commit());
    auto look = [&](Location location) { reached = reached || reach.from(location); };
    if (!epoch->each_location(look)) reached = true;
    if (epoch->is_open()) machines[epoch->machine()] |= reached;
  }
  std::vector<CheckpointHold> newest;
  std::map<std::uint32_t, std::string> names;
  {
    std::shared_lock guard(core_->catalog_mutex);
    for (const auto& [id, machine] : core_->catalog.machines()) {
      names[id] = machine.record.name;
      if (machines.contains(id) || machine.checkpoints.empty()) continue;
      newest.emplace_back(core_, machine.checkpoints.rbegin()->second.commit);
    }
  }
  for (const CheckpointHold& hold : newest) machines[hold.commit().machine] = reach.from(hold.commit());
  std::vector<std::string> found;
  for (const auto& [id, reached] : machines) {
    if (reached && names.contains(id)) found.push_back(names[id]);
  }
  return found;
}

}  // namespace ckpt
