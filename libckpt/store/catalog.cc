// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/catalog.h"

#include <algorithm>

#include "format/manifest.h"

namespace ckpt {

namespace {

Error wrong(const std::string& what) { return make_error(Code::corrupt, "journal record: " + what); }

}  // namespace

Status Catalog::apply(JournalRecord&& record) {
  return std::visit([this](auto&& typed) { return apply_typed(std::move(typed)); }, std::move(record));
}

Status Catalog::apply_typed(MachineRecord&& record) {
  if (machines_.contains(record.machine) || names_.contains(record.name)) return wrong("machine known already");
  next_machine_ = std::max(next_machine_, record.machine + 1);
  names_[record.name] = record.machine;
  machines_[record.machine].record = std::move(record);
  return {};
}

Status Catalog::apply_typed(DomainRecord&& record) {
  domains_[record.domain] = record.secret;
  return {};
}

Status Catalog::apply_typed(CommitRecord&& record) {
  auto machine = machines_.find(record.machine);
  if (machine == machines_.end()) return wrong("checkpoint of an unknown machine");
  if (record.number <= machine->second.last_number) return wrong("checkpoint number out of order");
  if (record.manifest_length == 0 || record.manifest_length > max_manifest_bytes || segment_of(record.manifest) == 0) {
    return wrong("manifest out of range");
  }
  largest_segment_ = std::max(largest_segment_, segment_of(record.manifest));
  machine->second.last_number = record.number;
  machine->second.last_commit = record;
  machine->second.checkpoints[record.number].commit = record;
  ++checkpoint_count_;
  return {};
}

Status Catalog::apply_typed(RemoveRecord&& record) {
  for (std::uint64_t number : record.numbers) {
    CheckpointEntry* entry = entry_of(record.machine, number);
    if (entry == nullptr) return wrong("removal of an unknown checkpoint");
    mark_count_ -= entry->pins.size() + (entry->name.empty() ? 0 : 1);
    machines_[record.machine].checkpoints.erase(number);
    --checkpoint_count_;
  }
  return {};
}

Status Catalog::apply_typed(NameRecord&& record) {
  CheckpointEntry* entry = entry_of(record.machine, record.number);
  if (entry == nullptr) return wrong("name of an unknown checkpoint");
  mark_count_ += (record.name.empty() ? 0u : 1u);
  mark_count_ -= (entry->name.empty() ? 0u : 1u);
  entry->name = std::move(record.name);
  return {};
}

Status Catalog::apply_typed(PinRecord&& record) {
  CheckpointEntry* entry = entry_of(record.machine, record.number);
  if (entry == nullptr) return wrong("pin of an unknown checkpoint");
  auto at = std::find(entry->pins.begin(), entry->pins.end(), record.holder);
  if (record.pinned && at == entry->pins.end()) {
    entry->pins.push_back(std::move(record.holder));
    ++mark_count_;
  } else if (!record.pinned && at != entry->pins.end()) {
    entry->pins.erase(at);
    --mark_count_;
  }
  return {};
}

Status Catalog::apply_typed(ForgetRecord&& record) {
  auto machine = machines_.find(record.machine);
  if (machine == machines_.end()) return wrong("an unknown machine forgotten");
  checkpoint_count_ -= machine->second.checkpoints.size();
  for (const auto& [number, entry] : machine->second.checkpoints) {
    mark_count_ -= entry.pins.size() + (entry.name.empty() ? 0 : 1);
  }
  names_.erase(machine->second.record.name);
  machines_.erase(machine);
  return {};
}

Status Catalog::apply_typed(DroppedRecord&& record) {
  largest_segment_ = std::max(largest_segment_, record.segment);
  dropped_.insert(std::upper_bound(dropped_.begin(), dropped_.end(), record.segment), record.segment);
  return {};
}

CheckpointEntry* Catalog::entry_of(std::uint32_t machine, std::uint64_t number) {
  return const_cast<CheckpointEntry*>(find(CheckpointKey{machine, number}));
}

MachineEntry* Catalog::find_machine(const std::string& name) {
  auto at = names_.find(name);
  return at == names_.end() ? nullptr : &machines_.at(at->second);
}

const MachineEntry* Catalog::find_machine(const std::string& name) const {
  auto at = names_.find(name);
  return at == names_.end() ? nullptr : &machines_.at(at->second);
}

const MachineEntry* Catalog::find_machine(std::uint32_t machine) const {
  auto at = machines_.find(machine);
  return at == machines_.end() ? nullptr : &at->second;
}

const CheckpointEntry* Catalog::find(const CheckpointKey& key) const {
  const MachineEntry* machine = find_machine(key.machine);
  if (machine == nullptr) return nullptr;
  auto at = machine->checkpoints.find(key.number);
  return at == machine->checkpoints.end() ? nullptr : &at->second;
}

Result<const CheckpointEntry*> Catalog::find(const CheckpointId& id) const {
  const MachineEntry* machine = find_machine(id.machine);
  if (machine == nullptr) return make_error(Code::not_found, "no machine " + id.machine + " in this store");
  auto at = machine->checkpoints.find(id.number);
  if (at != machine->checkpoints.end()) return &at->second;
  return make_error(Code::not_found, "no checkpoint " + to_string(id) + " in this store");
}

CheckpointInfo Catalog::info(const CheckpointEntry& entry) const {
  const CommitRecord& commit = entry.commit;
  CheckpointInfo info;
  info.id = {machines_.at(commit.machine).record.name, commit.number};
  const MachineEntry* parent = commit.parent_number == 0 ? nullptr : find_machine(commit.parent_machine);
  if (parent != nullptr) info.parent = {parent->record.name, commit.parent_number};
  info.wall_clock_ns = commit.wall_clock_ns;
  info.instance = commit.instance;
  info.application_consistent = commit.application_consistent;
  info.frozen = commit.frozen;
  info.name = entry.name;
  info.pins = entry.pins;
  info.data_bytes = commit.data_bytes;
  info.stored_bytes = commit.stored_bytes;
  return info;
}

MachineInfo Catalog::info(const MachineEntry& entry) const {
  return {entry.record.name, entry.record.uuid, entry.record.created_ns, entry.checkpoints.size(), entry.last_number};
}

std::vector<JournalRecord> Catalog::live_records() const {
  std::vector<JournalRecord> records;
  for (const auto& [domain, secret] : domains_) records.emplace_back(DomainRecord{domain, secret});
  for (const auto& [id, machine] : machines_) records.emplace_back(machine.record);
  if (next_machine_ > 1 && !machines_.contains(next_machine_ - 1)) {
    // Nor is a machine's, which checkpoints of other machines may name as their parent's.
    MachineRecord last;
    last.machine = next_machine_ - 1;
    records.emplace_back(last);
    records.emplace_back(ForgetRecord{last.machine});
  }
  for (const auto& [id, machine] : machines_) {
    for (const auto& [number, entry] : machine.checkpoints) {
      records.emplace_back(entry.commit);
      if (!entry.name.empty()) records.emplace_back(NameRecord{id, number, entry.name});
      for (const std::string& holder : entry.pins) records.emplace_back(PinRecord{id, true, number, holder});
    }
    // A number is never used again, so the largest is remembered by the record that used it.
    if (machine.last_commit && !machine.checkpoints.contains(machine.last_number)) {
      records.emplace_back(*machine.last_commit);
      records.emplace_back(RemoveRecord{id, {machine.last_number}});
    }
  }
  if (!dropped_.empty()) records.emplace_back(DroppedRecord{dropped_.back()});
  return records;
}

std::uint64_t Catalog::live_record_count() const {
  return domains_.size() + 3 * machines_.size() + checkpoint_count_ + mark_count_ + 1;
}

}  // namespace ckpt
