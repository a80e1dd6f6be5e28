// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What happens to segments besides reading and appending: recovery when a store is opened, removal, rewriting.
#include <algorithm>

#include "base/check.h"
#include "store/segment_store.h"

namespace ckpt {

namespace {

const std::string segments_folder = "segments/";
const std::string distrusted_name = "distrusted";
constexpr std::uint64_t max_distrusted_bytes = 64u << 20;
constexpr std::size_t name_bytes = 20;  // 16 digits and ".seg"

// 0: not a segment's name.
std::uint64_t id_of(const std::string& name) {
  if (name.size() != name_bytes) return 0;
  std::uint64_t id = 0;
  for (char c : name.substr(0, 16)) {
    if (c >= '0' && c <= '9')
      id = id * 16 + static_cast<std::uint64_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      id = id * 16 + static_cast<std::uint64_t>(c - 'a' + 10);
    else
      return 0;
  }
  return segment_name(id) == name && id <= max_segment_id ? id : 0;
}

// Of one frame, what is to be kept of it. Empty: nothing.
std::optional<FrameDraft> trimmed(const DecodedFrame& frame, const std::function<bool(std::uint32_t)>& keep,
                                  Compressor& compressor) {
  FrameBuilder builder;
  std::vector<std::uint32_t> ordinals;
  for (std::size_t i = 0; i < frame.table.size(); ++i) {
    if (!keep(frame.table[i].ordinal)) continue;
    builder.add(frame.chunk(i), frame.table[i].hash);
    ordinals.push_back(frame.table[i].ordinal);
  }
  if (ordinals.empty()) return std::nullopt;
  FrameDraft draft = builder.finish(compressor);
  for (std::size_t i = 0; i < ordinals.size(); ++i) draft.head.table[i].ordinal = ordinals[i];
  return draft;
}

}  // namespace

Status SegmentStore::load(const std::vector<std::uint64_t>& dropped) {
  CKPT_ASSIGN(auto names, backend_.list("segments"));
  for (const std::string& name : names) {
    std::uint64_t id = id_of(name);
    if (id == 0) {
      // A rewrite that was interrupted. Other names are not ours to touch.
      bool unfinished = name.size() > 4 && name.ends_with(".new") && id_of(name.substr(0, name.size() - 4)) != 0;
      if (unfinished && !options_.read_only) CKPT_TRY(backend_.remove(segments_folder + name));
      continue;
    }
    reserve_ids(id);
    {
      std::lock_guard lock(mutex_);
      if (entries_.contains(id)) continue;
    }
    if (!options_.read_only && std::binary_search(dropped.begin(), dropped.end(), id)) {
      CKPT_TRY(backend_.remove(segments_folder + name));
      continue;
    }
    Entry entry;
    if (!options_.read_only) {
      CKPT_ASSIGN(auto blob, backend_.open(segments_folder + name));
      CKPT_ASSIGN(entry.bytes, blob->size());
      CKPT_TRY(recover(id, entry));
    }
    std::lock_guard lock(mutex_);
    entries_.emplace(id, std::move(entry));
  }
  if (!options_.read_only) load_distrusted();
  return {};
}

// What cannot be read of it, or does not pass its checksum, may speak of any segment: none is trusted then.
void SegmentStore::load_distrusted() {
  auto blob = backend_.open(distrusted_name);
  if (!blob && blob.error().code == Code::not_found) return;
  auto size = blob ? (*blob)->size() : Result<std::uint64_t>(blob.error());
  bool small = size.ok() && *size <= max_distrusted_bytes;
  auto bytes = small ? read_exactly(**blob, 0, static_cast<std::size_t>(*size)) : Result<Bytes>(Bytes());
  auto known = bytes ? decode_segment_list(*bytes, uuid_) : Result<std::vector<std::uint64_t>>(bytes.error());
  std::lock_guard lock(mutex_);
  for (const auto& [id, entry] : entries_) {
    if (!known || std::binary_search(known->begin(), known->end(), id)) distrusted_.insert(id);
  }
}

// Best effort: on a full disk it is known until the store is closed, and written with the next one.
void SegmentStore::keep_distrusted() {
  if (options_.read_only) return;
  std::lock_guard file_lock(distrusted_mutex_);
  std::vector<std::uint64_t> ids;
  {
    std::lock_guard lock(mutex_);
    ids.assign(distrusted_.begin(), distrusted_.end());
  }
  if (ids.empty()) {
    (void)backend_.remove(distrusted_name);
    return;
  }
  const std::string unfinished = distrusted_name + ".new";
  Bytes bytes;
  encode_segment_list(bytes, uuid_, ids);
  auto blob = backend_.create(unfinished);
  bool written = blob && (*blob)->append_synced(bytes).ok();
  bool not_done = true;
  if (written) written = backend_.replace(unfinished, distrusted_name, not_done).ok();
  if (!written && not_done) (void)backend_.remove(unfinished);
}

// Finishes a segment that nobody sealed: cuts the torn tail and writes the footer. That needs no luck to be safe:
// frames are durable as far as the journal speaks of them, and a footer lists only frames that are whole.
Status SegmentStore::recover(std::uint64_t id, Entry& entry) {
  std::string name = segments_folder + segment_name(id);
  CKPT_ASSIGN(std::shared_ptr<Blob> blob, backend_.open(name));
  // Cut down before its header was durable, or damaged: reads will say so, reclaiming will leave it alone, and the
  // other segments are as good as they were.
  auto leave_alone = [&] {
    std::lock_guard lock(mutex_);
    distrusted_.insert(id);
    return Status();
  };
  if (entry.bytes >= segment_trailer_bytes) {
    auto tail = read_exactly(*blob, entry.bytes - segment_trailer_bytes, segment_trailer_bytes);
    if (!tail) return leave_alone();
    if (decode_trailer(*tail, entry.bytes)) return {};
  }
  auto file = SegmentFile::open(blob, id, uuid_, next_serial_++, true);
  if (!file || (*file)->unread()) return leave_alone();
  Bytes footer;
  Status read = (*file)->each_head([&footer](std::uint64_t offset, const FrameHead&, ByteView head_and_table) {
    append_footer_entry(footer, offset, head_and_table);
  });
  if (!read) return leave_alone();
  entry.unsealed = *file;
  CKPT_ASSIGN(auto writable, backend_.open_for_append(name));
  std::uint64_t end = (*file)->scanned_end();
  append_trailer(footer, end);
  // Whole frames may be there that were never synced: they are, before a footer says that they exist.
  Status sealed = writable->cut(end);
  if (sealed) sealed = writable->sync();
  if (sealed) sealed = writable->append_synced(footer);
  if (sealed) {
    entry.unsealed.reset();
    entry.bytes = end + footer.size();
  }
  // A full disk must not keep the store closed: the segment then stays as it is.
  return sealed || sealed.error().code == Code::no_space ? Status() : sealed;
}

std::vector<SegmentStore::Info> SegmentStore::list() const {
  std::unique_lock lock(mutex_);
  std::vector<Info> infos;
  for (const auto& [id, entry] : entries_) infos.push_back({id, entry.bytes, true});
  for (const auto& writer : full_) infos.push_back({writer->id(), writer->size(), false});
  if (open_) infos.push_back({open_->id(), open_->size(), false});
  lock.unlock();
  if (!options_.read_only) return infos;
  // A reader has not asked yet, and the writer goes on.
  for (Info& info : infos) {
    auto blob = backend_.open(segments_folder + segment_name(info.id));
    auto size = blob ? (*blob)->size() : Result<std::uint64_t>(blob.error());
    info.bytes = size ? *size : 0;
  }
  std::erase_if(infos, [](const Info& info) { return info.bytes == 0; });
  return infos;
}

std::uint64_t SegmentStore::total_bytes() const {
  std::uint64_t total = 0;
  for (const Info& info : list()) total += info.bytes;
  return total;
}

bool SegmentStore::is_last(std::uint64_t segment) const {
  std::lock_guard lock(mutex_);
  return entries_.upper_bound(segment) == entries_.end();
}

void SegmentStore::allow_duplicates(std::uint64_t segment, bool allowed) {
  std::lock_guard lock(mutex_);
  auto at = entries_.find(segment);
  if (at != entries_.end()) at->second.duplicates_allowed = allowed;
}

Status SegmentStore::remove(std::uint64_t segment) {
  bool distrusted = false;
  {
    std::lock_guard lock(mutex_);
    entries_.erase(segment);
    distrusted = distrusted_.erase(segment) != 0;
    std::erase_if(loaded_, [segment](const auto& file) { return file->id() == segment; });
  }
  if (distrusted) keep_distrusted();
  return backend_.remove(segments_folder + segment_name(segment));
}

Result<std::uint64_t> SegmentStore::rewrite(std::uint64_t segment, const std::function<bool(std::uint32_t)>& keep,
                                            int compression_level) {
  auto opened = file(segment);
  if (!opened) return unreadable(opened.error());
  auto old = opened.take();
  // What is not in the table would be lost.
  if (auto unread = old->unread()) return unreadable(*unread);
  std::string name = segments_folder + segment_name(segment);
  SegmentHeader header{segment, uuid_, old->generation() + 1};
  CKPT_ASSIGN(auto writer, SegmentWriter::create(backend_, name + ".new", header, next_serial_++));
  auto fill = [&]() -> Status {
    Compressor compressor(compression_level);
    Bytes bytes;
    DecodedFrame decoded;
    for (const FrameTable::Frame& frame : old->table().frames()) {
      const auto& ordinals = old->table().ordinals();
      bool any = std::any_of(ordinals.begin() + frame.first, ordinals.begin() + frame.first + frame.count, keep);
      if (!any) continue;
      if (Status read = old->read_frame(frame, bytes, decoded); !read) {
        distrust(make_location(segment, ordinals[frame.first]));
        return unreadable(read.error());
      }
      std::optional<FrameDraft> draft = trimmed(decoded, keep, compressor);
      CKPT_ASSIGN([[maybe_unused]] std::size_t added, writer->append(*draft, true));
    }
    CKPT_TRY(writer->flush());
    CKPT_TRY(writer->seal());
    return writer->blob()->sync();
  };
  bool not_done = true;
  Status status = fill();
  if (status) status = backend_.replace(name + ".new", name, not_done);
  if (!status && not_done) {
    (void)backend_.remove(name + ".new");
    return status.error();
  }
  // Whether the exchange is durable does not matter: the old segment has every chunk that the new one has.
  std::vector<bool> kept(old->table().next_ordinal());
  for (std::uint32_t ordinal : writer->table().ordinals()) kept[ordinal] = true;
  CKPT_ASSIGN(std::uint64_t bytes, writer->blob()->size());
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[segment];
  auto file =
      SegmentFile::adopt(writer->blob(), segment, header.generation, writer->serial(), writer->take_table(), true);
  std::erase(loaded_, old);
  entry.bytes = bytes;
  entry.unsealed.reset();
  entry.loaded = file;
  entry.kept = std::move(kept);
  remember_locked(file);
  return bytes;
}

void SegmentStore::close() {
  std::shared_ptr<SegmentWriter> last;
  {
    std::lock_guard lock(mutex_);
    if (!open_) return;
    last = open_;
    full_.push_back(std::move(open_));
    open_.reset();
  }
  (void)seal(last);
}

}  // namespace ckpt
