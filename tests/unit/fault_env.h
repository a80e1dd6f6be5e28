// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A file system in memory that keeps apart what is durable and what is not, and fails on demand: power cuts that drop
// or keep any subset of the unsynced writes, tear them at sectors and lose directory entries; ENOSPC, EIO and short
// writes. Thread-safe; in which order threads come is theirs.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>

#include "ckpt/env.h"

namespace ckpt {

enum class Fault { none, power_cut, no_space, io_error, short_write, failed_sync };

class FaultEnv : public Env {
public:
  explicit FaultEnv(std::uint64_t seed) : engine_(seed) {}

  // The call with this index (from 0, counted from now) meets the fault. What cannot hit every call waits for one it
  // can.
  void arm(Fault fault, std::uint64_t call) {
    std::lock_guard lock(mutex_);
    fault_ = fault;
    fault_call_ = calls_ + call;
    taken_ = false;
  }
  void disarm() {
    std::lock_guard lock(mutex_);
    fault_ = Fault::none;
  }
  bool taken() const {
    std::lock_guard lock(mutex_);
    return taken_;
  }
  std::uint64_t calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  // Called by who syncs a file, when what became of it is decided and before it is told. Set while one thread is there.
  std::function<void(const Status&)> on_sync;
  // Called when a file has been opened, by who opened it. It may call the store.
  std::function<void(const std::string& path)> on_open;
  // From now on a file grows only while all together fit.
  void set_capacity(std::uint64_t bytes) { capacity_bytes_ = bytes; }
  int open_files() const { return open_files_; }
  // From now on, or no more, there is no descriptor left to open a file with.
  void set_out_of_descriptors(bool out) { out_of_descriptors_ = out; }
  // What is left after the power is back. Every open handle is dead.
  void power_cycle();
  // Flips one bit of a file, durably.
  bool flip_bit(const std::string& path, std::uint64_t bit);
  // From now on, or no more, nothing can be read that this byte is in.
  void set_bad(const std::string& path, std::uint64_t offset, bool bad = true);
  std::vector<std::uint8_t> content(const std::string& path) const;
  std::uint64_t file_size(const std::string& path) const;
  std::uint64_t used_bytes() const;

  Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status make_directory(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<std::unique_ptr<File>> lock(const std::string& path) override;
  Result<std::uint64_t> free_bytes(const std::string&) override { return std::uint64_t{1} << 40; }
  std::uint64_t now_ns() override { return 1'000'000'000 + calls(); }
  Status random(std::span<std::uint8_t> out) override;

private:
  friend class FaultFile;
  using Bytes = std::vector<std::uint8_t>;
  struct Change {
    bool truncate = false;
    std::uint64_t offset = 0;  // or the new size
    Bytes data;
    bool lost = false;  // a failed sync has dropped it, though the page cache still shows it
  };
  struct Inode {
    Bytes data;
    Bytes durable;
    std::vector<Change> unsynced;
    std::set<std::uint64_t> bad;  // bytes
  };
  struct NameChange {
    std::string path;
    std::shared_ptr<Inode> inode;  // null: removed
  };
  using Names = std::map<std::string, std::shared_ptr<Inode>>;

  static void apply(Bytes& data, const Change& change);
  static std::string folder_of(const std::string& path) { return path.substr(0, path.find_last_of('/')); }
  void tear(Bytes& data, const Change& change);
  void set_name(const std::string& path, std::shared_ptr<Inode> inode);
  Result<std::unique_ptr<File>> open_locked(const std::string& path, Mode mode);
  static void put_name(Names& names, const std::string& path, const std::shared_ptr<Inode>& inode);
  enum class Call { plain, grows, syncs };
  // With mutex_ held. An error: the call meets the fault.
  Status step(Call call);
  std::uint64_t dice(std::uint64_t sides) { return engine_() % sides; }

  mutable std::mutex mutex_;
  std::mt19937_64 engine_;
  std::uint64_t generation_ = 0;  // of power; handles of another are dead
  std::uint64_t calls_ = 0;
  Fault fault_ = Fault::none;
  std::uint64_t fault_call_ = 0;
  bool taken_ = false;
  bool power_off_ = false;
  std::atomic<int> open_files_{0};
  std::uint64_t capacity_bytes_ = ~std::uint64_t{0};
  std::atomic<bool> out_of_descriptors_{false};
  std::map<std::string, std::vector<NameChange>> folders_;  // with their unsynced changes
  Names names_;
  Names durable_names_;
  std::map<std::string, std::weak_ptr<int>> locks_;
};

}  // namespace ckpt
