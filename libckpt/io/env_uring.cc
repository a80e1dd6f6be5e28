// SPDX-License-Identifier: LGPL-2.1-or-later
#include "io/env_uring.h"

#include <liburing.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <vector>

#include "base/check.h"
#include "io/env_posix.h"

namespace ckpt {

namespace {

constexpr unsigned ring_entries = 32;
constexpr std::size_t request_bytes = 1u << 20;

struct Ring {
  Ring() : status(io_uring_queue_init(ring_entries, &ring, 0)) {}
  ~Ring() {
    if (status == 0) io_uring_queue_exit(&ring);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  io_uring ring{};
  int status;
  bool usable = true;  // false: it holds requests that the kernel has not taken, and can only be thrown away
};

// A ring is used by one thread at a time; there are as many as ever were needed at once.
class RingPool {
public:
  explicit RingPool(std::unique_ptr<Ring> first) { free_.push_back(std::move(first)); }

  // Null when the kernel gives no more: the caller then does without.
  std::unique_ptr<Ring> take() {
    {
      std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto ring = std::move(free_.back());
        free_.pop_back();
        return ring;
      }
    }
    auto ring = std::make_unique<Ring>();
    return ring->status == 0 ? std::move(ring) : nullptr;
  }

  void give(std::unique_ptr<Ring> ring) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(ring));
  }

private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Ring>> free_;
};

class UringFile : public PosixFile {
public:
  UringFile(int fd, std::string path, std::shared_ptr<RingPool> pool)
      : PosixFile(fd, std::move(path)), pool_(std::move(pool)) {}

  Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return run(offset, data, false);
  }
  Status sync() override { return run(0, {}, true); }
  Status write_and_sync(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return run(offset, data, true);
  }

private:
  Status run(std::uint64_t offset, std::span<const std::uint8_t> data, bool with_sync);
  Result<std::size_t> batch(Ring& owner, std::uint64_t offset, std::span<const std::uint8_t> data, bool with_sync,
                            bool& synced);

  std::shared_ptr<RingPool> pool_;
};

// What the ring cannot do now, the plain calls can: writing bytes twice to one place does no harm.
Status UringFile::run(std::uint64_t offset, std::span<const std::uint8_t> data, bool with_sync) {
  bool synced = !with_sync;
  std::unique_ptr<Ring> ring = pool_->take();
  while (ring && (!data.empty() || !synced)) {
    auto done = batch(*ring, offset, data, with_sync, synced);
    if (!ring->usable) {
      ring.reset();
      break;
    }
    if (!done.ok()) {
      pool_->give(std::move(ring));
      return done.error();
    }
    offset += *done;
    data = data.subspan(*done);
  }
  if (ring) {
    pool_->give(std::move(ring));
    return {};
  }
  CKPT_TRY(PosixFile::write_at(offset, data));
  return synced ? Status() : PosixFile::sync();
}

// One submission: up to a ringful of writes, linked so that a sync runs after the last of them and only when all were
// whole. Returns how many bytes from the front were written; a short write makes the caller go on from there. When the
// kernel does not take all of it (no memory, mostly), the ring is no longer usable and nothing is said of what was
// written.
Result<std::size_t> UringFile::batch(Ring& owner, std::uint64_t offset, std::span<const std::uint8_t> data,
                                     bool with_sync, bool& synced) {
  io_uring& ring = owner.ring;
  std::array<std::size_t, ring_entries> lengths{};
  unsigned writes = 0;
  std::size_t placed = 0;
  while (placed < data.size() && writes < ring_entries - 1) {
    std::size_t length = std::min(request_bytes, data.size() - placed);
    io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    CKPT_CHECK(sqe != nullptr);
    io_uring_prep_write(sqe, fd_, data.data() + placed, static_cast<unsigned>(length), offset + placed);
    sqe->user_data = writes;
    if (with_sync) sqe->flags |= IOSQE_IO_LINK;
    lengths[writes++] = length;
    placed += length;
  }
  bool sync_now = with_sync && placed == data.size();
  if (sync_now) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    CKPT_CHECK(sqe != nullptr);
    io_uring_prep_fsync(sqe, fd_, IORING_FSYNC_DATASYNC);
    sqe->user_data = ring_entries;
  }
  unsigned wanted = writes + (sync_now ? 1 : 0);
  unsigned submitted = 0;
  while (submitted < wanted) {
    int n = io_uring_submit(&ring);
    if (n > 0) submitted += static_cast<unsigned>(n);
    if (n <= 0 && n != -EINTR) break;
  }
  owner.usable = submitted == wanted;
  std::array<int, ring_entries + 1> results{};
  for (unsigned i = 0; i < submitted; ++i) {
    io_uring_cqe* cqe = nullptr;
    int n;
    while ((n = io_uring_wait_cqe(&ring, &cqe)) == -EINTR) {
    }
    CKPT_CHECK(n == 0 && cqe->user_data <= ring_entries);
    results[cqe->user_data] = cqe->res;
    io_uring_cqe_seen(&ring, cqe);
  }
  if (!owner.usable) return std::size_t{0};
  std::size_t done = 0;
  for (unsigned i = 0; i < writes; ++i) {
    if (results[i] == -EINTR || results[i] == -EAGAIN) return done;
    if (results[i] < 0) return failed("write", -results[i]);
    if (results[i] == 0) return failed("write", ENOSPC);
    done += static_cast<std::size_t>(results[i]);
    if (static_cast<std::size_t>(results[i]) < lengths[i]) return done;
  }
  if (sync_now && results[ring_entries] < 0 && results[ring_entries] != -EINTR) {
    return failed("sync", -results[ring_entries]);
  }
  synced = synced || (sync_now && results[ring_entries] == 0);
  return done;
}

class UringEnv : public PosixEnv {
public:
  explicit UringEnv(std::unique_ptr<Ring> ring) : pool_(std::make_shared<RingPool>(std::move(ring))) {}

protected:
  std::unique_ptr<File> make_file(int fd, const std::string& path) override {
    return std::make_unique<UringFile>(fd, path, pool_);
  }

private:
  std::shared_ptr<RingPool> pool_;
};

}  // namespace

std::unique_ptr<Env> make_uring_env() {
  auto ring = std::make_unique<Ring>();
  if (ring->status != 0) return nullptr;
  return std::make_unique<UringEnv>(std::move(ring));
}

Env& Env::system() {
  // Never destroyed: files that live to the end of the process still use it.
  static Env* env = [] {
    std::unique_ptr<Env> uring = make_uring_env();
    return uring ? uring.release() : new PosixEnv();
  }();
  return *env;
}

}  // namespace ckpt
