// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>

#include "store/checkpoint_reader.h"
#include "store/store_impl.h"
#include "store/store_open.h"

namespace ckpt {

namespace {

constexpr std::size_t max_machine_name_bytes = 64;
constexpr std::size_t max_label_bytes = 255;
constexpr int index_steps_per_epoch = 2;
// With less a reader has scanned the whole segment by one read.
constexpr std::uint64_t worth_sealing_bytes = 1u << 20;

bool valid_machine_name(const std::string& name) {
  if (name.empty() || name.size() > max_machine_name_bytes || name[0] == '.' || name[0] == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

Error no_machine(const std::string& name) {
  return make_error(Code::not_found, "no machine " + name + " in this store");
}

Error is_pinned(const std::string& machine, std::uint64_t number, const CheckpointEntry& entry) {
  std::string holders;
  for (const std::string& holder : entry.pins) holders += (holders.empty() ? "" : ", ") + holder;
  return make_error(Code::busy, to_string({machine, number}) + " is pinned by " + holders + ": unpin it first");
}

// What begin_epoch() hands out; the state may outlive it for the epoch behind it.
class EpochHandle : public EpochWriter {
public:
  explicit EpochHandle(std::shared_ptr<EpochState> state) : state_(std::move(state)) {}
  ~EpochHandle() override { state_->abandon(); }

  std::uint64_t number() const override { return state_->number(); }
  Status write(std::size_t object, std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return state_->write(object, offset, data);
  }
  Status zero(std::size_t object, std::uint64_t offset, std::uint64_t length) override {
    return state_->zero(object, offset, length);
  }
  Result<CheckpointInfo> commit(const EpochInfo& info) override { return state_->commit(info); }

  const std::shared_ptr<EpochState>& state() const { return state_; }

private:
  std::shared_ptr<EpochState> state_;
};

}  // namespace

Status StoreImpl::add_machine(const std::string& name, const std::array<std::uint8_t, 16>& uuid) {
  if (!valid_machine_name(name)) {
    return make_error(Code::invalid,
                      "machine name \"" + name + "\": 1 to 64 of [A-Za-z0-9._-], not starting with . or -");
  }
  std::lock_guard guard(core_->commit_mutex);
  if (core_->catalog.find_machine(name) != nullptr)
    return make_error(Code::exists, "machine " + name + " is there already");
  DomainRecord domain{core_->catalog.next_domain(), {}};
  CKPT_TRY(core_->env.random(domain.secret));
  MachineRecord machine{core_->catalog.next_machine(), domain.domain, uuid, core_->env.now_ns(), name};
  CKPT_TRY(core_->write_record(domain));
  core_->keys.add(domain.domain, domain.secret);
  return core_->write_record(machine);
}

std::vector<MachineInfo> StoreImpl::machines() const {
  std::shared_lock guard(core_->catalog_mutex);
  std::vector<MachineInfo> infos;
  for (const auto& [id, machine] : core_->catalog.machines()) infos.push_back(core_->catalog.info(machine));
  std::sort(infos.begin(), infos.end(), [](const auto& one, const auto& other) { return one.name < other.name; });
  return infos;
}

Status StoreImpl::forget_machine(const std::string& name) {
  std::lock_guard guard(core_->commit_mutex);
  const MachineEntry* machine = core_->catalog.find_machine(name);
  if (machine == nullptr) return no_machine(name);
  std::vector<CommitRecord> gone;
  for (const auto& [number, entry] : machine->checkpoints) {
    if (!entry.pins.empty()) return is_pinned(name, number, entry);
    gone.push_back(entry.commit);
  }
  CKPT_TRY(core_->write_record(ForgetRecord{machine->record.machine}));
  for (const CommitRecord& commit : gone) core_->live.removed(commit);
  return {};
}

Result<std::vector<CheckpointInfo>> StoreImpl::checkpoints(const std::string& name) const {
  std::shared_lock guard(core_->catalog_mutex);
  const MachineEntry* machine = core_->catalog.find_machine(name);
  if (machine == nullptr) return no_machine(name);
  std::vector<CheckpointInfo> infos;
  for (const auto& [number, entry] : machine->checkpoints) infos.push_back(core_->catalog.info(entry));
  return infos;
}

Result<CheckpointInfo> StoreImpl::checkpoint(const CheckpointId& id) const {
  std::shared_lock guard(core_->catalog_mutex);
  CKPT_ASSIGN(const CheckpointEntry* entry, core_->catalog.find(id));
  return core_->catalog.info(*entry);
}

Result<EpochState::Base> StoreImpl::find_base(const EpochBase& base) const {
  EpochState::Base found;
  if (base.closed != nullptr) {
    auto* handle = dynamic_cast<EpochHandle*>(base.closed);
    if (handle == nullptr || handle->state()->core() != core_.get()) {
      return make_error(Code::invalid, "the closed epoch belongs to another store");
    }
    found.closed = handle->state();
    return found;
  }
  if (base.parent.number == 0) return found;
  {
    std::shared_lock guard(core_->catalog_mutex);
    CKPT_ASSIGN(const CheckpointEntry* entry, core_->catalog.find(base.parent));
    found.parent = entry->commit;
    found.hold = CheckpointHold(core_, entry->commit);
  }
  auto manifest = core_->read_manifest(*found.parent);
  if (!manifest) return unreadable(manifest.error());
  found.manifest = manifest.take();
  return found;
}

Result<std::unique_ptr<EpochWriter>> StoreImpl::begin_epoch(const std::string& machine, std::uint64_t number,
                                                            const EpochBase& base, const std::vector<Object>& objects) {
  std::uint32_t id = 0;
  std::uint32_t domain = 0;
  {
    std::lock_guard commit(core_->commit_mutex);
    CKPT_TRY(core_->check_writable());
    const MachineEntry* entry = core_->catalog.find_machine(machine);
    if (entry == nullptr) return no_machine(machine);
    if (number <= entry->last_number) {
      return make_error(Code::invalid, "epoch " + std::to_string(number) + ": " + machine + " has used numbers up to " +
                                           std::to_string(entry->last_number));
    }
    id = entry->record.machine;
    domain = entry->record.domain;
  }
  CKPT_ASSIGN(EpochState::Base found, find_base(base));
  if (found.closed && number <= found.closed->number()) {
    return make_error(Code::invalid, "epoch " + std::to_string(number) + " is not newer than the closed one");
  }
  // A full copy is when knowing what the store holds matters most; small epochs spread the reading.
  bool full = !found.closed && !found.parent;
  for (int i = 0; (full || i < index_steps_per_epoch) && core_->segments.index_some(); ++i) {
  }
  CKPT_ASSIGN(auto state, EpochState::begin(core_, id, domain, number, std::move(found), objects));
  return std::unique_ptr<EpochWriter>(std::make_unique<EpochHandle>(std::move(state)));
}

Result<std::unique_ptr<CheckpointReader>> StoreImpl::open_checkpoint(const CheckpointId& id) {
  return StoredCheckpoint::open(core_, id);
}

Status StoreImpl::remove(const std::string& name, std::span<const std::uint64_t> numbers) {
  std::lock_guard guard(core_->commit_mutex);
  const MachineEntry* machine = core_->catalog.find_machine(name);
  if (machine == nullptr) return no_machine(name);
  std::vector<std::uint64_t> sorted(numbers.begin(), numbers.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  for (std::uint64_t number : sorted) {
    CKPT_ASSIGN(const CheckpointEntry* entry, core_->catalog.find(CheckpointId{name, number}));
    if (!entry->pins.empty()) return is_pinned(name, number, *entry);
  }
  if (sorted.size() > max_numbers_per_record) {
    return make_error(Code::limit, "more than 65536 checkpoints to remove in one step");
  }
  if (sorted.empty()) return {};
  std::vector<CommitRecord> gone;
  for (std::uint64_t number : sorted) gone.push_back(machine->checkpoints.at(number).commit);
  CKPT_TRY(core_->write_record(RemoveRecord{machine->record.machine, std::move(sorted)}));
  for (const CommitRecord& commit : gone) core_->live.removed(commit);
  return {};
}

Status StoreImpl::name(const CheckpointId& id, const std::string& name) {
  if (name.size() > max_label_bytes) return make_error(Code::invalid, "a name of more than 255 bytes");
  std::lock_guard guard(core_->commit_mutex);
  CKPT_ASSIGN(const CheckpointEntry* entry, core_->catalog.find(id));
  if (entry->name == name) return {};
  for (const auto& [number, other] : core_->catalog.find_machine(id.machine)->checkpoints) {
    if (!name.empty() && other.name == name) {
      return make_error(Code::exists, to_string({id.machine, number}) + " is named " + name + " already");
    }
  }
  return core_->write_record(NameRecord{entry->commit.machine, id.number, name});
}

Status StoreImpl::set_pin(const CheckpointId& id, const std::string& holder, bool pinned) {
  if (holder.empty() || holder.size() > max_label_bytes) {
    return make_error(Code::invalid, "a pin's holder has 1 to 255 bytes");
  }
  std::unique_lock guard(core_->commit_mutex);
  CKPT_ASSIGN(const CheckpointEntry* entry, core_->catalog.find(id));
  bool there = std::find(entry->pins.begin(), entry->pins.end(), holder) != entry->pins.end();
  if (there == pinned) return {};
  CKPT_TRY(core_->write_record(PinRecord{entry->commit.machine, pinned, id.number, holder}));
  guard.unlock();
  if (!pinned) return {};
  // Somebody comes to read it, perhaps through a link, and would have to scan all of a segment that has no footer.
  for (const SegmentStore::Info& segment : core_->segments.list()) {
    if (!segment.closed && segment.bytes >= worth_sealing_bytes) core_->segments.close();
  }
  return {};
}

Status StoreImpl::pin(const CheckpointId& id, const std::string& holder) { return set_pin(id, holder, true); }
Status StoreImpl::unpin(const CheckpointId& id, const std::string& holder) { return set_pin(id, holder, false); }

StoreStats StoreImpl::stats() const {
  StoreStats stats;
  stats.uuid = core_->uuid;
  stats.segments = core_->segments.list().size();
  stats.stored_bytes = core_->segments.total_bytes();
  std::uint64_t live = reclaimer_.live_bytes();
  stats.live_bytes = live == 0 ? stats.stored_bytes : std::min(live, stats.stored_bytes);
  if (auto free = core_->backend->free_bytes()) stats.free_bytes = *free;
  stats.uncounted = reclaimer_.uncounted();
  std::lock_guard commit(core_->commit_mutex);
  stats.journal_bytes = core_->journal.bytes();
  stats.checkpoints = core_->catalog.checkpoint_count();
  stats.damaged = !core_->journal.damage().empty();
  return stats;
}

Status StoreImpl::refresh() { return refresh_store(*core_); }

}  // namespace ckpt
