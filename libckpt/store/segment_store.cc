// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/segment_store.h"

#include <algorithm>

#include "base/check.h"

namespace ckpt {

namespace {

constexpr std::size_t frame_cache_bytes = 48u << 20;
const std::string segments_folder = "segments/";

bool speaks_of_data(const Error& error) {
  return error.code != Code::unavailable && (error.code != Code::io || is_bad_place(error));
}

}  // namespace

SegmentStore::SegmentStore(Backend& backend, const StoreUuid& uuid, const Options& options)
    : backend_(backend),
      uuid_(uuid),
      options_(options),
      cache_(frame_cache_bytes),
      index_(options.read_only ? 0 : options.index_limit_bytes) {}

Error unreadable(Error error) {
  if (is_bad_place(error))
    error.code = Code::corrupt;
  else if (error.code == Code::io)
    error.code = Code::limit;
  return error;
}

void SegmentStore::reserve_ids(std::uint64_t used) {
  std::lock_guard lock(mutex_);
  next_id_ = std::max(next_id_, used + 1);
}

Error SegmentStore::last_failure() const {
  std::lock_guard lock(mutex_);
  return last_failure_;
}

// --- reading

Result<Chunk> SegmentStore::read(Location location) { return read_chunk(location, true); }
Result<Chunk> SegmentStore::read_uncached(Location location) { return read_chunk(location, false); }

Result<Chunk> SegmentStore::read_chunk(Location location, bool cached) {
  auto chunk = read_stored(location, cached);
  if (!chunk && speaks_of_data(chunk.error())) distrust(location);
  return chunk;
}

// Its other chunks may be good, and what the disk failed to read it may read later; storing them again costs space,
// taking a bad one for a duplicate costs a checkpoint.
void SegmentStore::distrust(Location location) {
  std::uint64_t id = segment_of(location);
  {
    std::lock_guard lock(mutex_);
    if (!entries_.contains(id) && !writer_of_locked(id)) return;
    if (!distrusted_.insert(id).second) return;
  }
  keep_distrusted();
}

Result<FrameTable::Frame> SegmentStore::frame_of(Location location) {
  {
    std::lock_guard lock(mutex_);
    auto writer = writer_of_locked(segment_of(location));
    const FrameTable::Frame* found = writer ? writer->table().find(ordinal_of(location)) : nullptr;
    if (found != nullptr) return *found;
  }
  CKPT_ASSIGN(std::shared_ptr<SegmentFile> segment, file(segment_of(location)));
  return find_frame(*segment, location);
}

Result<FrameTable::Frame> SegmentStore::find_frame(SegmentFile& segment, Location location) {
  std::optional<FrameTable::Frame> frame = segment.find(ordinal_of(location));
  if (!frame && options_.read_only && !segment.sealed()) {
    // The writer has gone on since.
    CKPT_TRY(segment.scan_on(false));
    frame = segment.find(ordinal_of(location));
  }
  if (frame) return *frame;
  if (auto unread = segment.unread()) {
    // The next one who asks looks again.
    forget(segment);
    return *unread;
  }
  return make_error(Code::corrupt, place_of(location) + ": is not there");
}

void SegmentStore::forget(const SegmentFile& segment) {
  std::lock_guard lock(mutex_);
  std::erase_if(loaded_, [&](const auto& file) { return file.get() == &segment; });
  auto at = entries_.find(segment.id());
  if (at != entries_.end() && at->second.loaded.lock().get() == &segment) at->second.loaded.reset();
}

Result<SegmentStore::Stored> SegmentStore::locate(Location location) {
  Stored stored;
  {
    std::lock_guard lock(mutex_);
    if (auto writer = writer_of_locked(segment_of(location))) {
      const FrameTable::Frame* found = writer->table().find(ordinal_of(location));
      if (found == nullptr) return make_error(Code::corrupt, place_of(location) + ": is not there");
      stored.frame = *found;
      stored.key = {writer->serial(), found->offset};
      stored.blob = writer->blob();
      ByteView buffered = writer->buffered(*found);
      stored.buffered.assign(buffered.begin(), buffered.end());
      return stored;
    }
  }
  CKPT_ASSIGN(stored.file, file(segment_of(location)));
  CKPT_ASSIGN(stored.frame, find_frame(*stored.file, location));
  stored.key = {stored.file->serial(), stored.frame.offset};
  return stored;
}

Status SegmentStore::load(const Stored& stored, Location location, Bytes& bytes, DecodedFrame& out) {
  if (stored.file) return stored.file->read_frame(stored.frame, bytes, out);
  if (stored.buffered.empty()) {
    bytes.resize(stored.frame.total_bytes());
    CKPT_TRY(read_exactly(*stored.blob, stored.frame.offset, bytes));
  }
  Status decoded = decode_frame(stored.buffered.empty() ? bytes : stored.buffered,
                                frame_seed(segment_of(location), stored.frame.offset), out);
  if (decoded) return {};
  return make_error(decoded.error().code, place_of(location) + ": " + decoded.error().context);
}

Result<Chunk> SegmentStore::read_stored(Location location, bool cached) {
  CKPT_ASSIGN(Stored stored, locate(location));
  std::shared_ptr<const DecodedFrame> decoded = cached ? cache_.find(stored.key) : nullptr;
  if (!decoded) {
    auto fresh = std::make_shared<DecodedFrame>();
    Bytes bytes;
    CKPT_TRY(load(stored, location, bytes, *fresh));
    decoded = std::move(fresh);
    if (cached) cache_.insert(stored.key, decoded);
  }
  return chunk_of(decoded, location);
}

Status SegmentStore::read_frame(std::span<const PagePlace> pages, std::size_t request_bytes, FrameRun& run,
                                DecodedFrame& out) {
  const Location location = pages.front().place;
  auto stored = locate(location);
  Bytes bytes;
  Status done = !stored        ? Status(stored.error())
                : stored->file ? run.read(*stored->file, stored->frame, pages, request_bytes, out)
                               : load(*stored, location, bytes, out);
  if (done && out.find(ordinal_of(location)) == out.table.size()) {
    done = make_error(Code::corrupt, place_of(location) + ": is not in its frame");
  }
  if (!done && speaks_of_data(done.error())) distrust(location);
  return done;
}

Result<Chunk> SegmentStore::chunk_of(const std::shared_ptr<const DecodedFrame>& frame, Location location) const {
  std::size_t index = frame->find(ordinal_of(location));
  if (index == frame->table.size()) return make_error(Code::corrupt, place_of(location) + ": is not in its frame");
  return Chunk{frame, index};
}

std::shared_ptr<SegmentWriter> SegmentStore::writer_of_locked(std::uint64_t id) const {
  if (open_ && open_->id() == id) return open_;
  for (const auto& writer : full_) {
    if (writer->id() == id) return writer;
  }
  return nullptr;
}

Result<std::shared_ptr<SegmentFile>> SegmentStore::file(std::uint64_t segment) {
  {
    std::lock_guard lock(mutex_);
    auto at = entries_.find(segment);
    if (at == entries_.end() && !options_.read_only) return missing(segment);
    if (at != entries_.end()) {
      if (at->second.unsealed) return at->second.unsealed;
      if (auto loaded = at->second.loaded.lock()) {
        remember_locked(loaded);
        return loaded;
      }
    }
  }
  return open_file(segment);
}

Error SegmentStore::missing(std::uint64_t id) const {
  std::string name = segments_folder + segment_name(id);
  if (!options_.read_only) return make_error(Code::corrupt, name + " is missing");
  // A file system that is not mounted now, or a directory that was moved, comes back; a segment does not.
  if (auto there = backend_.list(segments_folder); !there)
    return make_error(Code::unavailable, name + " cannot be looked for, the store is away: " + there.error().message());
  return make_error(Code::corrupt, name + " is missing: was the checkpoint pinned before it was read?");
}

// Outside the lock: two threads may both do it, and one of the results is kept.
Result<std::shared_ptr<SegmentFile>> SegmentStore::open_file(std::uint64_t id) {
  auto opened = backend_.open(segments_folder + segment_name(id));
  if (!opened && opened.error().code == Code::not_found) return missing(id);
  if (!opened) return opened.error();
  CKPT_ASSIGN(auto file, SegmentFile::open(opened.take(), id, uuid_, next_serial_++, false));
  CKPT_ASSIGN(std::uint64_t bytes, file->blob().size());
  bool incomplete = file->unread().has_value();
  if (incomplete) distrust(make_location(id, 0));
  std::lock_guard lock(mutex_);
  // Deleted meanwhile. A new entry would bring its chunks back as duplicates to be found, in a file that is gone.
  if (!entries_.contains(id) && !options_.read_only) return missing(id);
  Entry& entry = entries_[id];
  if (auto other = entry.loaded.lock()) return other;
  entry.bytes = bytes;
  if (!file->sealed() && !incomplete && !options_.read_only) entry.unsealed = file;
  entry.loaded = file;
  remember_locked(file);
  return file;
}

void SegmentStore::remember_locked(const std::shared_ptr<SegmentFile>& file) {
  if (!loaded_.empty() && loaded_.front() == file) return;
  auto at = std::find(loaded_.begin(), loaded_.end(), file);
  if (at != loaded_.end()) {
    loaded_.splice(loaded_.begin(), loaded_, at);
    return;
  }
  loaded_.push_front(file);
  if (loaded_.size() > max_loaded_files) loaded_.pop_back();
}

// --- appending

Status SegmentStore::ensure_open_locked(std::size_t chunks, std::shared_ptr<SegmentWriter>& full) {
  if (open_ && (open_->size() >= options_.segment_size_bytes || !open_->has_room_for(chunks))) {
    full = open_;
    full_.push_back(std::move(open_));
    open_.reset();
  }
  if (open_) return {};
  SegmentHeader header{next_id_, uuid_, 0};
  CKPT_ASSIGN(open_, SegmentWriter::create(backend_, segments_folder + segment_name(next_id_), header, next_serial_++));
  ++next_id_;
  return {};
}

Result<std::vector<Location>> SegmentStore::append(std::span<FrameDraft> drafts, bool index_them,
                                                   std::uint64_t& stored_bytes) {
  std::vector<Location> locations;
  std::shared_ptr<SegmentWriter> full;
  std::size_t chunks = 0;
  for (const FrameDraft& draft : drafts) chunks += draft.head.table.size();
  Status opened;
  {
    std::lock_guard lock(mutex_);
    opened = ensure_open_locked(chunks, full);
    for (std::size_t i = 0; opened && i < drafts.size(); ++i) {
      FrameDraft& draft = drafts[i];
      auto added = open_->append(draft);
      if (!added) {
        fail_locked(open_, added.error());
        return added.error();
      }
      stored_bytes += *added;
      locations.push_back(make_location(open_->id(), draft.head.table.front().ordinal));
      for (const ChunkEntry& entry : draft.head.table) {
        if (index_them) index_.insert(entry.hash, make_location(open_->id(), entry.ordinal));
      }
    }
  }
  if (full) CKPT_TRY(seal(full));
  if (!opened) return opened.error();
  return locations;
}

// One sync at a time for a writer: the system tells a write that failed to one of those who sync a file, so another's
// success beside it says nothing. Whoever comes meanwhile waits, and shares the next one's result with all who wait.
Status SegmentStore::sync_writer(const std::shared_ptr<SegmentWriter>& writer) {
  std::unique_lock lock(mutex_);
  std::uint64_t wanted = writer->size();
  auto current = [&] { return writer_of_locked(writer->id()) == writer; };
  if (!current()) return {};  // sealed, so synced, or failed, which its epochs see
  while (current() && writer->durable_bytes() < wanted) {
    if (writer->syncing()) {
      sync_ended_.wait(lock);
      continue;
    }
    if (Status status = writer->flush(); !status) {
      fail_locked(writer, status.error());
      return status;
    }
    std::uint64_t size = writer->size();
    writer->set_syncing(true);
    lock.unlock();
    Status status = writer->blob()->sync();
    lock.lock();
    writer->set_syncing(false);
    if (current() && status) writer->set_durable(size);
    if (current() && !status) fail_locked(writer, status.error());
    sync_ended_.notify_all();
  }
  return writer->durable_bytes() >= wanted ? Status() : Status(last_failure_);
}

Status SegmentStore::sync() {
  std::vector<std::shared_ptr<SegmentWriter>> writers;
  {
    std::lock_guard lock(mutex_);
    writers = full_;
    if (open_) writers.push_back(open_);
  }
  for (const auto& writer : writers) CKPT_TRY(sync_writer(writer));
  return {};
}

// The frames are durable before there is a footer: a footer never promises what a power cut took away.
Status SegmentStore::seal(const std::shared_ptr<SegmentWriter>& writer) {
  CKPT_TRY(sync_writer(writer));
  std::lock_guard lock(mutex_);
  if (writer_of_locked(writer->id()) != writer) return {};
  // Without a footer it is as good, only slower to open.
  bool sealed = writer->seal().ok();
  if (!sealed) (void)writer->blob()->cut(writer->durable_bytes());
  retire_locked(writer, writer->take_table(), sealed);
  return {};
}

void SegmentStore::retire_locked(const std::shared_ptr<SegmentWriter>& writer, FrameTable table, bool sealed) {
  Entry& entry = entries_[writer->id()];
  auto file = SegmentFile::adopt(writer->blob(), writer->id(), writer->generation(), writer->serial(), std::move(table),
                                 sealed);
  entry.bytes = sealed ? writer->size() : writer->durable_bytes();
  entry.indexed = true;
  entry.loaded = file;
  if (!sealed) entry.unsealed = file;
  remember_locked(file);
  std::erase(full_, writer);
  if (open_ == writer) open_.reset();
}

void SegmentStore::fail_locked(std::shared_ptr<SegmentWriter> writer, const Error& error) {
  last_failure_ = error;
  ++failures_;
  FrameTable table = writer->give_up();
  if (!table.frames().empty()) {
    std::vector<bool> kept(table.next_ordinal(), true);
    retire_locked(writer, std::move(table), false);
    entries_[writer->id()].kept = std::move(kept);
    return;
  }
  // Nothing in it was ever durable.
  std::erase(full_, writer);
  if (open_ == writer) open_.reset();
  (void)backend_.remove(segments_folder + segment_name(writer->id()));
}

// --- deduplication

bool SegmentStore::usable_locked(Location location) const {
  if (distrusted_.contains(segment_of(location))) return false;
  if (writer_of_locked(segment_of(location))) return true;
  auto at = entries_.find(segment_of(location));
  if (at == entries_.end() || !at->second.duplicates_allowed) return false;
  const auto& kept = at->second.kept;
  return !kept || (ordinal_of(location) < kept->size() && (*kept)[ordinal_of(location)]);
}

Location SegmentStore::find_duplicate(const ChunkHash& hash) {
  std::lock_guard lock(mutex_);
  Location location = index_.find(hash);
  return location != 0 && usable_locked(location) ? location : 0;
}

bool SegmentStore::index_some() {
  std::uint64_t id = 0;
  {
    std::lock_guard lock(mutex_);
    if (index_.full()) return false;
    for (auto at = entries_.rbegin(); at != entries_.rend() && id == 0; ++at) {
      if (at->second.indexed || distrusted_.contains(at->first)) continue;
      at->second.indexed = true;
      id = at->first;
    }
  }
  if (id == 0) return false;
  auto segment = file(id);
  if (!segment) return true;  // damage is verify's to report; not knowing these chunks costs space only
  (void)(*segment)->each_head([this, id](std::uint64_t, const FrameHead& head, ByteView) {
    std::lock_guard lock(mutex_);
    for (const ChunkEntry& entry : head.table) {
      if (entry.length == max_chunk_bytes) index_.insert(entry.hash, make_location(id, entry.ordinal));
    }
  });
  return true;
}

}  // namespace ckpt
