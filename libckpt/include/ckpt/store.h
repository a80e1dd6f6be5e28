// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The checkpoint store: open it, write epochs into it, read checkpoints out of it, remove them again.
// On-disk format: doc/store_format.md. What a checkpoint promises: doc/consistency.md.
//
// Start here: Store::open, then begin_epoch / EpochWriter to write, open_checkpoint / CheckpointReader to read.
// All classes may be used from several threads unless a method says otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/result.h"

namespace ckpt {

class Env;

inline constexpr std::uint64_t page_size_bytes = 4096;

enum class ObjectClass : std::uint32_t { ram = 1, disk = 2, device_state = 3, config = 4 };

// One thing of a machine that has bytes. `name` is unique within its class.
struct Object {
  ObjectClass object_class = ObjectClass::ram;
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint32_t page_size_bytes = 0;  // of the backing memory; 0 for others
  std::uint32_t flags = 0;            // bit 0: read-only disk
};

// A checkpoint's name: machine and number. Number 0 means none.
struct CheckpointId {
  std::string machine;
  std::uint64_t number = 0;

  bool operator==(const CheckpointId&) const = default;
};

// As people and files write it: MACHINE@NUMBER.
std::string to_string(const CheckpointId& id);
Result<CheckpointId> parse_checkpoint_id(std::string_view text);

enum class RunState : std::uint32_t { running = 1, paused = 2, other = 3 };

// What is known of the instant of a checkpoint; filled in by whoever commits.
struct EpochInfo {
  std::uint64_t wall_clock_ns = 0;  // CLOCK_REALTIME at the pause
  std::uint64_t vm_clock_ns = 0;
  RunState run_state = RunState::running;
  std::uint32_t pause_us = 0;
  std::array<std::uint8_t, 16> instance{};  // of the QEMU object that sent it
  bool application_consistent = false;      // the guest's file systems were frozen for it, its hooks took part
  bool frozen = false;                      // they may be: whoever runs it thaws them
  std::string qemu_version;
  std::string machine_type;
};

struct CheckpointInfo {
  CheckpointId id;
  CheckpointId parent;  // number 0: none
  std::uint64_t wall_clock_ns = 0;
  std::array<std::uint8_t, 16> instance{};
  bool application_consistent = false;
  bool frozen = false;
  std::string name;                // given by the admin; empty: none
  std::vector<std::string> pins;   // holders
  std::uint64_t data_bytes = 0;    // what the epoch carried
  std::uint64_t stored_bytes = 0;  // what it added to the store, compressed, nodes included
};

struct MachineInfo {
  std::string name;
  std::array<std::uint8_t, 16> uuid{};
  std::uint64_t created_ns = 0;
  std::uint64_t checkpoint_count = 0;
  std::uint64_t last_number = 0;  // largest ever used, also by removed checkpoints; 0: none
};

struct StoreOptions {
  bool create = false;        // make the store when the directory is missing or empty
  bool read_only = false;     // no lock is taken; the journal is read as of now
  int compression_level = 1;  // zstd
  std::uint64_t segment_size_bytes = 64ull << 20;
  std::uint64_t index_limit_bytes = 256ull << 20;  // dedup index; beyond it old chunks are found no more
  std::uint64_t epoch_map_bytes = 32ull << 20;  // of an open epoch's page map in memory; beyond it, it goes to a file
};

// Damage: where the bad bytes are, and which checkpoints cannot be trusted for it.
struct Damage {
  std::string place;  // file and offset
  std::string reason;
  std::vector<CheckpointId> checkpoints;  // kept ones that reach it; those that did may have been removed since
  std::uint64_t location = 0;             // the same place, for Store::undermined()
};

struct StoreStats {
  std::array<std::uint8_t, 16> uuid{};  // of the store, made with it
  std::uint64_t segments = 0;
  std::uint64_t stored_bytes = 0;  // size of all segments
  std::uint64_t live_bytes = 0;    // estimate: stored bytes that kept checkpoints reach
  std::uint64_t journal_bytes = 0;
  std::uint64_t checkpoints = 0;
  std::uint64_t free_bytes = 0;  // of the file system
  bool damaged = false;          // the journal is damaged: opened read-only, writing says where
  // What collect() could not read, with one checkpoint that reaches it: everything older is kept until that is removed,
  // or can be read.
  std::vector<Damage> uncounted;
};

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool zero = false;
};

// Where the bytes of a page are. Those of near places are kept, and read, together.
struct PagePlace {
  std::uint64_t page = 0;
  std::uint64_t place = 0;
};

struct Verification {
  std::vector<Damage> damages;
  std::uint64_t checkpoints = 0;  // that were to be looked at
  bool cancelled = false;         // damages are what was found until then
};

struct VerifyProgress {
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;  // grows while done_bytes is 0 and what there is to read is found out; then it stays
};

// Reads of stored bytes, as they were asked for.
struct StoreRequests {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  std::uint64_t nanoseconds = 0;  // until they were there, all together
};

// Pages by their places: a frame is read and decompressed once for all pages in it, and nothing is copied. For who
// wants many pages soon, or one at once. One thread at a time; does not outlive the CheckpointReader it came from.
class FrameReader {
public:
  virtual ~FrameReader() = default;

  // The first of `pages`, and as many of those behind it as came with it: for each a pointer to its page_size_bytes
  // bytes, valid until the next call. Pages that follow one another in a frame do so in memory. In the order of their
  // places, `pages` need the fewest frames. An error is about the first page only.
  // `request_bytes`: a frame that has to be read brings those of the pages behind it along that lie near it, as long as
  // that is no more than so many bytes, and than 256 KiB; they are kept as they are stored until the next request.
  virtual Result<std::span<const std::uint8_t* const>> read(std::span<const PagePlace> pages,
                                                            std::size_t request_bytes) = 0;
  // Whether the page comes without another request.
  virtual bool has(std::uint64_t place) const = 0;
  // All that read() has made so far.
  virtual StoreRequests requests() const = 0;
};

// Reads one checkpoint. Every byte handed out has passed its checksum; damage is Code::corrupt and names the place.
// Stays valid, and readable, when the store goes on, collects garbage, or the checkpoint is removed; it may outlive the
// Store. With a store that is open for reading only, beside a writer, that takes a pin, set before it is opened: what
// it reads is opened when needed.
class CheckpointReader {
public:
  virtual ~CheckpointReader() = default;

  virtual const CheckpointInfo& info() const = 0;
  virtual const EpochInfo& epoch() const = 0;
  virtual const std::vector<Object>& objects() const = 0;

  // Fills `out` from byte `offset` of objects()[object]. Any offset and length within the object.
  virtual Status read(std::size_t object, std::uint64_t offset, std::span<std::uint8_t> out) = 0;

  // One page (4,096 bytes; the last of an object may be short and is filled up with zeroes). Returns false, and leaves
  // `out` alone, when the page reads as zeroes.
  virtual Result<bool> read_page(std::size_t object, std::uint64_t page,
                                 std::span<std::uint8_t, page_size_bytes> out) = 0;

  // The pages of [first, end) that do not read as zeroes, in order. They are for this reader's frames() only.
  virtual Result<std::vector<PagePlace>> places(std::size_t object, std::uint64_t first, std::uint64_t end) = 0;
  // Opens what reading these pages will need, so that the first who does need not wait for it. As much as stays open at
  // once; after an error, some of it.
  virtual Status prepare(std::size_t object, std::uint64_t first, std::uint64_t end) = 0;
  // `kept`, at least 1: so many frames stay decompressed.
  virtual std::unique_ptr<FrameReader> frames(std::size_t kept) = 0;

  // Data and zero extents of [offset, offset + length), in order and without gaps, at most `limit` of them. They are of
  // whole pages: the first may begin before `offset`, the last may end after the range, but not after the object.
  virtual Result<std::vector<Extent>> extents(std::size_t object, std::uint64_t offset, std::uint64_t length,
                                              std::size_t limit) = 0;

  // Pages of `object` that differ from checkpoint `older`, in order; all non-zero pages when `older` has no such
  // object.
  virtual Result<std::vector<std::uint64_t>> changed_pages(std::size_t object, CheckpointReader& older) = 0;
};

// Collects one epoch. Nothing of it exists until commit() has returned success. Destroying it abandons the epoch.
// One thread at a time. Errors are sticky: after one, only abandonment is possible. May outlive the Store it came from.
class EpochWriter {
public:
  virtual ~EpochWriter() = default;

  virtual std::uint64_t number() const = 0;

  // Bytes of objects[object] (the vector given to begin_epoch). Any alignment; a part of a page is completed from what
  // the page was before. Later calls win. The range lies within the object's size_bytes; device state and config grow
  // with what is written to them, to at most 1 GiB. Errors: invalid (object, range), corrupt (what it builds upon
  // cannot be read, not even for a failing disk: an epoch without a base can go on), no_space, io (the store cannot be
  // written).
  virtual Status write(std::size_t object, std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
  virtual Status zero(std::size_t object, std::uint64_t offset, std::uint64_t length) = 0;

  // Makes it a checkpoint: durable before success is returned. Errors as of write(). After one nothing of it will be
  // seen on reopening, except when code is io and the record may have reached the disk: then the store refuses further
  // writes until reopened.
  virtual Result<CheckpointInfo> commit(const EpochInfo& info) = 0;
};

// What a new epoch builds upon.
struct EpochBase {
  // The parent checkpoint; number 0: none, everything starts as zeroes.
  CheckpointId parent;
  // Or an epoch that is closed and about to be committed before this one (must then outlive this writer's
  // first commit attempt; commit of this one fails unless it has been committed). Overrides parent.
  EpochWriter* closed = nullptr;
};

class Store {
public:
  virtual ~Store() = default;

  // Opens or makes the store at `path`. Errors: not_found, busy (another writer holds it: context names its pid),
  // version, corrupt (FORMAT or journal head). A damaged journal opens read-only with stats().damaged set.
  static Result<std::unique_ptr<Store>> open(Env& env, const std::string& path, const StoreOptions& options);

  // Makes a machine known. Errors: exists, invalid (name: 1 to 64 of [A-Za-z0-9._-], not starting with '.' or '-').
  virtual Status add_machine(const std::string& name, const std::array<std::uint8_t, 16>& uuid) = 0;
  virtual std::vector<MachineInfo> machines() const = 0;
  // Removes the machine and all its checkpoints in one durable step. Errors: not_found; busy when one of them is
  // pinned: then nothing is removed.
  virtual Status forget_machine(const std::string& name) = 0;

  // Kept checkpoints of a machine, oldest first.
  virtual Result<std::vector<CheckpointInfo>> checkpoints(const std::string& machine) const = 0;
  virtual Result<CheckpointInfo> checkpoint(const CheckpointId& id) const = 0;

  // Opens a new epoch. `number` must be larger than any the machine has used; it is used by the commit. An epoch
  // without a base reads the heads of all segments first, so that it stores nothing twice. Errors: not_found (machine,
  // parent), invalid (number, base, an object), limit (more than 4,096 objects), refused (the store is read-only),
  // corrupt (the parent cannot be read, for whatever reason), io (the store could not be written earlier).
  virtual Result<std::unique_ptr<EpochWriter>> begin_epoch(const std::string& machine, std::uint64_t number,
                                                           const EpochBase& base,
                                                           const std::vector<Object>& objects) = 0;

  // Errors: not_found, corrupt (its manifest), version, io.
  virtual Result<std::unique_ptr<CheckpointReader>> open_checkpoint(const CheckpointId& id) = 0;

  // These are durable when they return, and after an error nothing has changed; when that is io, the store may refuse
  // to write until it is opened again. Errors besides those named: not_found, refused (read-only), no_space, io.

  // Removes checkpoints in one step; pinned ones: busy, nothing removed; more than 65,536: limit. Space comes back with
  // collect().
  virtual Status remove(const std::string& machine, std::span<const std::uint64_t> numbers) = 0;
  // At most 255 bytes; empty: takes the name away. exists: another checkpoint of the machine has it.
  virtual Status name(const CheckpointId& id, const std::string& name) = 0;
  // Holders of 1 to 255 bytes; pins survive restarts. A second pin of one holder, or an unpin without one, changes
  // nothing.
  virtual Status pin(const CheckpointId& id, const std::string& holder) = 0;
  virtual Status unpin(const CheckpointId& id, const std::string& holder) = 0;

  // One bounded step of garbage collection: deletes dead segments, rewrites at most one. Returns the bytes given back;
  // 0: nothing to do. Damage does not stop it: see StoreStats::uncounted. After an error no live byte is gone; a later
  // call goes on.
  virtual Result<std::uint64_t> collect() = 0;

  // Re-reads and re-hashes what the given checkpoints (empty: all) reach; what cannot be read is damage too. `progress`
  // may return false to cancel.
  virtual Result<Verification> verify(std::span<const CheckpointId> ids,
                                      bool (*progress)(void* context, const VerifyProgress&), void* context) = 0;

  // Machines whose next checkpoints would rest on damage that verify() or stats() has named, as things are now: their
  // epochs under way reach it, or, when there are none, their newest checkpoints. What cannot be read on the way counts
  // as damage. Those must be copied anew: an epoch without a base that begins after damage was found takes nothing of
  // it.
  virtual std::vector<std::string> undermined(std::span<const Damage> damages) = 0;

  virtual StoreStats stats() const = 0;
  // For a reader: sees what has been committed since. A no-op for the writer. After an error (not_found, corrupt, io)
  // what was seen before stays; a later call may succeed.
  virtual Status refresh() = 0;
};

}  // namespace ckpt
