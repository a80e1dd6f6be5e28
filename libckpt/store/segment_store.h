// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "store/chunk_index.h"
#include "store/frame_cache.h"
#include "store/frame_run.h"
#include "store/segment_writer.h"

namespace ckpt {

// A chunk in memory; the bytes live as long as the frame does.
struct Chunk {
  std::shared_ptr<const DecodedFrame> frame;
  std::size_t index = 0;

  ByteView bytes() const { return frame->chunk(index); }
  const ChunkHash& hash() const { return frame->table[index].hash; }
};

// For who needs stored bytes to go on: those that the disk cannot read are as good as damaged, and a want of
// descriptors or memory is a limit. Code::io is left to say that the store could not be written.
Error unreadable(Error error);

// All segments of a store: reading by location, appending, deduplication. Thread-safe.
class SegmentStore {
public:
  struct Options {
    bool read_only = false;
    std::uint64_t segment_size_bytes = 64ull << 20;
    std::uint64_t index_limit_bytes = 256ull << 20;
  };

  SegmentStore(Backend& backend, const StoreUuid& uuid, const Options& options);

  // Lists the segments. A writer finishes what an interrupted one left; `dropped` were being deleted. A reader opens
  // none before it reads from it. Call again to see new ones.
  Status load(const std::vector<std::uint64_t>& dropped);
  // IDs from here on are free; the journal may know of larger ones than there are files.
  void reserve_ids(std::uint64_t used);
  // Before load(): the journal turned out to be damaged.
  void set_read_only() { options_.read_only = true; }

  Result<Chunk> read(Location location);
  // The frame that a chunk is in.
  Result<FrameTable::Frame> frame_of(Location location);
  // The whole frame that the first of `pages` is in, as of FrameRun::read. Never kept here: for who reads all of it
  // now. After an error `out` holds nothing of use.
  Status read_frame(std::span<const PagePlace> pages, std::size_t request_bytes, FrameRun& run, DecodedFrame& out);
  // As it is on the disk now.
  Result<Chunk> read_uncached(Location location);
  // After something there could not be read: no chunk of its segment is taken for a duplicate any more.
  void distrust(Location location);

  // Appends the frames, one behind another in one segment. Returns the location of each one's first chunk; the others
  // follow on. `index_them`: identical chunks are to be found by find_duplicate() from now on.
  Result<std::vector<Location>> append(std::span<FrameDraft> drafts, bool index_them, std::uint64_t& stored_bytes);
  // All that has been appended is durable.
  Status sync();
  // A location of this content, 0 when there is none that may be used.
  Location find_duplicate(const ChunkHash& hash);
  // Makes some more of the older segments' chunks known to find_duplicate(). False: there are no more.
  bool index_some();

  // Counts failures of append() and sync(). Chunks that were not durable then are lost, so every epoch begun before
  // must be given up; later ones start in a new segment.
  std::uint64_t failures() const { return failures_.load(); }
  Error last_failure() const;

  // For reclaiming.
  struct Info {
    std::uint64_t id = 0;
    std::uint64_t bytes = 0;
    bool closed = false;  // nothing will be added
  };
  std::vector<Info> list() const;
  std::uint64_t total_bytes() const;
  // No closed one has a larger ID.
  bool is_last(std::uint64_t segment) const;
  void allow_duplicates(std::uint64_t segment, bool allowed);
  Result<std::shared_ptr<SegmentFile>> file(std::uint64_t segment);
  Status remove(std::uint64_t segment);
  // Rewrites it with those chunks only. Returns the bytes it has now. corrupt: it cannot be read, and stays as it is.
  Result<std::uint64_t> rewrite(std::uint64_t segment, const std::function<bool(std::uint32_t ordinal)>& keep,
                                int compression_level);
  // Seals the open segment, at the end.
  void close();

private:
  struct Entry {
    std::uint64_t bytes = 0;
    bool duplicates_allowed = true;
    bool indexed = false;
    std::shared_ptr<SegmentFile> unsealed;  // the writer's: scanning again would be slow
    std::weak_ptr<SegmentFile> loaded;
    std::optional<std::vector<bool>> kept;  // after a rewrite: ordinals that are still there
  };
  // Where a frame is.
  struct Stored {
    std::shared_ptr<SegmentFile> file;  // none: it is being written
    std::shared_ptr<Blob> blob;         // then
    Bytes buffered;                     // and what is not in the blob yet
    FrameTable::Frame frame;
    FrameKey key;
  };
  static constexpr std::size_t max_loaded_files = 256;  // and so many are open, of however large a store

  Status recover(std::uint64_t id, Entry& entry);
  void load_distrusted();
  void keep_distrusted();
  Error missing(std::uint64_t id) const;
  void forget(const SegmentFile& segment);
  Result<std::shared_ptr<SegmentFile>> open_file(std::uint64_t id);
  void remember_locked(const std::shared_ptr<SegmentFile>& file);
  Result<Chunk> chunk_of(const std::shared_ptr<const DecodedFrame>& frame, Location location) const;
  std::shared_ptr<SegmentWriter> writer_of_locked(std::uint64_t id) const;
  Result<Chunk> read_chunk(Location location, bool cached);
  Result<FrameTable::Frame> find_frame(SegmentFile& segment, Location location);
  Result<Stored> locate(Location location);
  Status load(const Stored& stored, Location location, Bytes& bytes, DecodedFrame& out);
  Result<Chunk> read_stored(Location location, bool cached);
  Status ensure_open_locked(std::size_t chunks, std::shared_ptr<SegmentWriter>& full);
  Status seal(const std::shared_ptr<SegmentWriter>& writer);
  Status sync_writer(const std::shared_ptr<SegmentWriter>& writer);
  void fail_locked(std::shared_ptr<SegmentWriter> writer, const Error& error);
  void retire_locked(const std::shared_ptr<SegmentWriter>& writer, FrameTable table, bool sealed);
  bool usable_locked(Location location) const;

  Backend& backend_;
  StoreUuid uuid_;
  Options options_;
  FrameCache cache_;
  std::atomic<std::uint64_t> next_serial_{1};
  std::atomic<std::uint64_t> failures_{0};

  std::mutex distrusted_mutex_;  // guards the file; taken before mutex_
  mutable std::mutex mutex_;
  std::condition_variable sync_ended_;              // of a writer
  std::map<std::uint64_t, Entry> entries_;          // all but those being written
  std::set<std::uint64_t> distrusted_;              // of all: nothing new may rest on them
  std::list<std::shared_ptr<SegmentFile>> loaded_;  // used last first
  std::shared_ptr<SegmentWriter> open_;
  std::vector<std::shared_ptr<SegmentWriter>> full_;  // being sealed
  std::uint64_t next_id_ = 1;
  ChunkIndex index_;
  Error last_failure_;
};

}  // namespace ckpt
