// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/store.h"
#include "format/journal.h"

namespace ckpt {

// A checkpoint's identity inside a store: machines are known by number there, as their names may be used again.
struct CheckpointKey {
  std::uint32_t machine = 0;
  std::uint64_t number = 0;
  auto operator<=>(const CheckpointKey&) const = default;
};

struct CheckpointEntry {
  CommitRecord commit;
  std::string name;
  std::vector<std::string> pins;
};

struct MachineEntry {
  MachineRecord record;
  std::uint64_t last_number = 0;
  std::optional<CommitRecord> last_commit;  // of last_number, also when it has been removed
  std::map<std::uint64_t, CheckpointEntry> checkpoints;
};

// What the journal says, in memory. Not thread-safe.
class Catalog {
public:
  // Errors: corrupt, for a record that no writer can have written here.
  Status apply(JournalRecord&& record);

  MachineEntry* find_machine(const std::string& name);
  const MachineEntry* find_machine(const std::string& name) const;
  const MachineEntry* find_machine(std::uint32_t machine) const;
  const CheckpointEntry* find(const CheckpointKey& key) const;
  Result<const CheckpointEntry*> find(const CheckpointId& id) const;

  const std::map<std::uint32_t, MachineEntry>& machines() const { return machines_; }
  const std::map<std::uint32_t, Secret>& domains() const { return domains_; }
  const std::vector<std::uint64_t>& dropped() const { return dropped_; }
  std::uint32_t next_machine() const { return next_machine_; }
  std::uint32_t next_domain() const { return domains_.empty() ? 1 : domains_.rbegin()->first + 1; }
  std::uint64_t largest_segment() const { return largest_segment_; }
  std::uint64_t checkpoint_count() const { return checkpoint_count_; }

  CheckpointInfo info(const CheckpointEntry& entry) const;
  MachineInfo info(const MachineEntry& entry) const;

  // The records that say the same and no more. Dropped segments but the last are left out: their files are gone.
  std::vector<JournalRecord> live_records() const;
  std::uint64_t live_record_count() const;

private:
  Status apply_typed(MachineRecord&& record);
  Status apply_typed(DomainRecord&& record);
  Status apply_typed(CommitRecord&& record);
  Status apply_typed(RemoveRecord&& record);
  Status apply_typed(NameRecord&& record);
  Status apply_typed(PinRecord&& record);
  Status apply_typed(ForgetRecord&& record);
  Status apply_typed(DroppedRecord&& record);
  CheckpointEntry* entry_of(std::uint32_t machine, std::uint64_t number);

  std::map<std::uint32_t, MachineEntry> machines_;
  std::map<std::string, std::uint32_t> names_;
  std::map<std::uint32_t, Secret> domains_;
  std::vector<std::uint64_t> dropped_;  // sorted
  std::uint32_t next_machine_ = 1;
  std::uint64_t largest_segment_ = 0;
  std::uint64_t checkpoint_count_ = 0;
  std::uint64_t mark_count_ = 0;  // names and pins
};

}  // namespace ckpt
