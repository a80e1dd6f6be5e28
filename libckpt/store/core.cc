// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/core.h"

#include <algorithm>

namespace ckpt {

namespace {

const std::string reserve_name = "reserve";
constexpr std::size_t reserve_bytes = 1u << 20;
// The largest record that gives space back is a removal; the file system needs some room too.
static_assert(reserve_bytes >= 2 * max_numbers_per_record * sizeof(std::uint64_t));

}  // namespace

StoreCore::StoreCore(Env& the_env, std::unique_ptr<File> the_lock, std::unique_ptr<Backend> the_backend,
                     const StoreUuid& the_uuid, const StoreOptions& the_options)
    : env(the_env),
      lock(std::move(the_lock)),
      backend(std::move(the_backend)),
      uuid(the_uuid),
      options(the_options),
      segments(*backend, uuid, {options.read_only, options.segment_size_bytes, options.index_limit_bytes}),
      journal(*backend, uuid) {}

StoreCore::~StoreCore() {
  if (!options.read_only) segments.close();
}

Result<Chunk> StoreCore::read_chunk(Location location, std::uint32_t domain) {
  CKPT_ASSIGN(Chunk chunk, segments.read(location));
  if (!keys.matches(chunk.bytes(), chunk.hash(), domain)) {
    segments.distrust(location);
    return make_error(Code::corrupt, place_of(location) + ": content does not match its hash");
  }
  return chunk;
}

Result<Manifest> StoreCore::read_manifest(const CommitRecord& commit) {
  std::uint32_t domain = domain_of(commit.machine);
  Bytes bytes;
  for (Location at = commit.manifest; bytes.size() < commit.manifest_length; ++at) {
    CKPT_ASSIGN(Chunk chunk, read_chunk(at, domain));
    ByteView view = chunk.bytes();
    bytes.insert(bytes.end(), view.begin(), view.end());
  }
  if (bytes.size() != commit.manifest_length) {
    return make_error(Code::corrupt, place_of(commit.manifest) + ": manifest of another length");
  }
  auto manifest = decode_manifest(bytes);
  if (manifest) return manifest;
  Error error = manifest.error();
  error.context = place_of(commit.manifest) + ": " + error.context;
  return error;
}

std::uint32_t StoreCore::domain_of(std::uint32_t machine) const {
  std::shared_lock guard(catalog_mutex);
  const MachineEntry* entry = catalog.find_machine(machine);
  return entry == nullptr ? 0 : entry->record.domain;
}

Status StoreCore::check_writable() const {
  if (!journal.damage().empty()) {
    return make_error(Code::refused, "the store is damaged and open for reading only: " + journal.damage());
  }
  if (options.read_only) return make_error(Code::refused, "the store is open for reading only");
  if (!journal.usable()) {
    return make_error(Code::io, "the journal could not be written: no more is stored until the store is opened again");
  }
  return {};
}

Status StoreCore::write_record(JournalRecord record) {
  CKPT_TRY(check_writable());
  CKPT_TRY(append_record(record));
  std::unique_lock guard(catalog_mutex);
  return catalog.apply(std::move(record));
}

Status StoreCore::append_record(const JournalRecord& record) {
  Status status = journal.append(record);
  bool gives_back = std::holds_alternative<RemoveRecord>(record) || std::holds_alternative<ForgetRecord>(record) ||
                    std::holds_alternative<DroppedRecord>(record);
  if (status || status.error().code != Code::no_space || !gives_back) return status;
  // Also one that is smaller: what there is may do.
  if (!backend->remove(reserve_name)) return status;
  reserve_ = false;
  return journal.append(record);
}

void StoreCore::keep_reserve() {
  std::lock_guard commit(commit_mutex);
  if (reserve_ || options.read_only) return;
  auto blob = backend->open_for_append(reserve_name);
  auto size = blob ? (*blob)->size() : Result<std::uint64_t>(blob.error());
  if (!size) return;
  // Not zeroes: a file system may keep those without space.
  reserve_ = *size >= reserve_bytes ||
             (*blob)->append_synced(Bytes(reserve_bytes - static_cast<std::size_t>(*size), 0xA5)).ok();
  // Back to what it was before: one that an older version made is better than none.
  if (!reserve_) (void)(*blob)->cut(*size);
}

void StoreCore::add_epoch(const std::shared_ptr<EpochState>& epoch) {
  std::lock_guard guard(epochs_mutex_);
  std::erase_if(epochs_, [](const auto& known) { return known.expired(); });
  epochs_.push_back(epoch);
}

std::vector<std::shared_ptr<EpochState>> StoreCore::epochs() {
  std::lock_guard guard(epochs_mutex_);
  std::vector<std::shared_ptr<EpochState>> epochs;
  for (const auto& known : epochs_) {
    if (auto epoch = known.lock()) epochs.push_back(std::move(epoch));
  }
  return epochs;
}

Result<Node> StoredNodes::load_node(Location location) {
  CKPT_ASSIGN(Chunk chunk, core_.read_chunk(location, domain_));
  if (chunk.bytes().size() != node_bytes) return make_error(Code::corrupt, place_of(location) + ": is not a node");
  return decode_node(chunk.bytes());
}

Result<Node> BaseNodes::load_node(Location location) {
  auto node = stored_.load_node(location);
  return node ? node : unreadable(node.error());
}

Result<Node> CachedNodes::load_node(Location location) {
  auto& slot = slots_[(location * 0x9E3779B97F4A7C15u) >> 52];
  static_assert(slot_count == 1u << (64 - 52));
  {
    std::lock_guard lock(mutex_);
    if (slot && slot->location == location) return slot->node;
  }
  CKPT_ASSIGN(Node node, stored_.load_node(location));
  std::lock_guard lock(mutex_);
  if (!slot) slot = std::make_unique<Slot>();
  *slot = {location, node};
  return node;
}

}  // namespace ckpt
