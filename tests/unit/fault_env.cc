// SPDX-License-Identifier: LGPL-2.1-or-later
#include "unit/fault_env.h"

#include <algorithm>
#include <cerrno>

namespace ckpt {

namespace {
constexpr std::size_t sector_bytes = 512;
Error power_is_off() { return system_error(EIO, "the power is off"); }
}  // namespace

class FaultFile : public File {
public:
  FaultFile(FaultEnv& env, std::shared_ptr<FaultEnv::Inode> inode, std::shared_ptr<int> lock)
      : env_(env), inode_(std::move(inode)), lock_(std::move(lock)), generation_(env.generation_) {
    ++env_.open_files_;
  }
  ~FaultFile() override { --env_.open_files_; }

  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override {
    std::lock_guard lock(env_.mutex_);
    if (dead()) return power_is_off();
    CKPT_TRY(env_.step(FaultEnv::Call::plain));
    if (offset >= inode_->data.size()) return std::size_t{0};
    std::size_t n = std::min<std::size_t>(out.size(), inode_->data.size() - offset);
    auto bad = inode_->bad.lower_bound(offset);
    if (bad != inode_->bad.end() && *bad < offset + n) return system_error(EIO, "a bad sector");
    std::copy_n(inode_->data.begin() + static_cast<std::ptrdiff_t>(offset), n, out.begin());
    return n;
  }

  Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    std::lock_guard lock(env_.mutex_);
    if (dead()) return power_is_off();
    std::uint64_t end = offset + data.size();
    bool limited = env_.capacity_bytes_ != ~std::uint64_t{0} && end > inode_->data.size();
    if (limited && env_.used_bytes() + end - inode_->data.size() > env_.capacity_bytes_) {
      return system_error(ENOSPC, "the disk is full");
    }
    Status status = env_.step(FaultEnv::Call::grows);
    std::size_t done = data.size();
    // A write that fails, by whatever cause, may have done a part.
    if (!status && data.size() > 1 && (env_.fault_ != Fault::no_space || env_.dice(2) == 0))
      done = env_.dice(data.size());
    else if (!status)
      done = 0;
    if (done > 0) {
      FaultEnv::Change change{false, offset, {data.begin(), data.begin() + static_cast<std::ptrdiff_t>(done)}};
      FaultEnv::apply(inode_->data, change);
      inode_->unsynced.push_back(std::move(change));
    }
    return status;
  }

  Status sync() override {
    Status status = sync_locked();
    if (env_.on_sync) env_.on_sync(status);
    return status;
  }

  Status truncate(std::uint64_t size) override {
    std::lock_guard lock(env_.mutex_);
    if (dead()) return power_is_off();
    CKPT_TRY(env_.step(FaultEnv::Call::plain));
    FaultEnv::Change change{true, size, {}};
    FaultEnv::apply(inode_->data, change);
    inode_->unsynced.push_back(change);
    return {};
  }

  Result<std::uint64_t> size() override {
    std::lock_guard lock(env_.mutex_);
    if (dead()) return power_is_off();
    CKPT_TRY(env_.step(FaultEnv::Call::plain));
    return static_cast<std::uint64_t>(inode_->data.size());
  }

private:
  Status sync_locked() {
    std::lock_guard lock(env_.mutex_);
    if (dead()) return power_is_off();
    Status status = env_.step(FaultEnv::Call::syncs);
    if (!status) {
      for (auto& change : inode_->unsynced) change.lost = change.lost || env_.dice(2) == 0;
      return status;
    }
    for (const auto& change : inode_->unsynced) {
      if (!change.lost) FaultEnv::apply(inode_->durable, change);
    }
    inode_->unsynced.clear();
    return {};
  }

  bool dead() const { return generation_ != env_.generation_ || env_.power_off_; }

  FaultEnv& env_;
  std::shared_ptr<FaultEnv::Inode> inode_;
  std::shared_ptr<int> lock_;
  std::uint64_t generation_;
};

Status FaultEnv::step(Call kind) {
  if (power_off_) return power_is_off();
  std::uint64_t call = calls_++;
  if (fault_ == Fault::none || taken_ || call < fault_call_) return {};
  bool full = fault_ == Fault::no_space || fault_ == Fault::short_write;
  if (full && kind == Call::plain) return {};
  if (fault_ == Fault::failed_sync && kind != Call::syncs) return {};
  taken_ = true;
  if (fault_ == Fault::power_cut) {
    power_off_ = true;
    return power_is_off();
  }
  if (fault_ == Fault::io_error || fault_ == Fault::failed_sync) return system_error(EIO, "injected");
  return system_error(ENOSPC, "injected");
}

void FaultEnv::apply(Bytes& data, const Change& change) {
  if (change.truncate) {
    data.resize(change.offset);
    return;
  }
  if (data.size() < change.offset + change.data.size()) data.resize(change.offset + change.data.size());
  std::copy(change.data.begin(), change.data.end(), data.begin() + static_cast<std::ptrdiff_t>(change.offset));
}

// Any subset of the sectors of a write may have reached the disk; the size may have, with zeroes behind it.
void FaultEnv::tear(Bytes& data, const Change& change) {
  for (std::size_t done = 0; done < change.data.size();) {
    std::size_t length =
        std::min<std::size_t>(sector_bytes - (change.offset + done) % sector_bytes, change.data.size() - done);
    auto from = change.data.begin() + static_cast<std::ptrdiff_t>(done);
    Change piece{false, change.offset + done, {from, from + static_cast<std::ptrdiff_t>(length)}};
    if (dice(2) == 0) apply(data, piece);
    done += length;
  }
}

void FaultEnv::power_cycle() {
  power_off_ = false;
  taken_ = false;
  fault_ = Fault::none;
  ++generation_;
  // Directory changes survive in order, up to some point in each directory.
  std::set<std::shared_ptr<Inode>> inodes;
  for (auto& [folder, changes] : folders_) {
    std::uint64_t kept = dice(changes.size() + 1);
    for (std::uint64_t i = 0; i < kept; ++i) put_name(durable_names_, changes[i].path, changes[i].inode);
    changes.clear();
  }
  names_ = durable_names_;
  for (const auto& [path, inode] : names_) inodes.insert(inode);
  for (const auto& inode : inodes) {
    std::uint64_t mood = dice(4);  // all, nothing, whole writes, torn writes
    for (const Change& change : inode->unsynced) {
      if (change.lost || mood == 1) continue;
      if (mood == 0 || (mood >= 2 && dice(2) == 0))
        apply(inode->durable, change);
      else if (mood == 3)
        tear(inode->durable, change);
    }
    inode->unsynced.clear();
    inode->data = inode->durable;
  }
}

bool FaultEnv::flip_bit(const std::string& path, std::uint64_t bit) {
  auto at = names_.find(path);
  if (at == names_.end() || at->second->data.size() * 8 <= bit) return false;
  at->second->data[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
  at->second->durable = at->second->data;
  return true;
}

void FaultEnv::set_bad(const std::string& path, std::uint64_t offset, bool bad) {
  std::lock_guard lock(mutex_);
  auto& places = names_.at(path)->bad;
  bad ? void(places.insert(offset)) : void(places.erase(offset));
}

std::vector<std::uint8_t> FaultEnv::content(const std::string& path) const {
  std::lock_guard lock(mutex_);
  return names_.at(path)->data;
}

std::uint64_t FaultEnv::file_size(const std::string& path) const {
  auto at = names_.find(path);
  return at == names_.end() ? 0 : at->second->data.size();
}

std::uint64_t FaultEnv::used_bytes() const {
  std::uint64_t used = 0;
  for (const auto& [path, inode] : names_) used += inode->data.size();
  return used;
}

void FaultEnv::put_name(Names& names, const std::string& path, const std::shared_ptr<Inode>& inode) {
  if (inode)
    names[path] = inode;
  else
    names.erase(path);
}

void FaultEnv::set_name(const std::string& path, std::shared_ptr<Inode> inode) {
  put_name(names_, path, inode);
  folders_[folder_of(path)].push_back({path, std::move(inode)});
}

Result<std::unique_ptr<File>> FaultEnv::open(const std::string& path, Mode mode) {
  auto file = open_locked(path, mode);
  if (file && on_open) on_open(path);
  return file;
}

Result<std::unique_ptr<File>> FaultEnv::open_locked(const std::string& path, Mode mode) {
  std::lock_guard lock(mutex_);
  if (out_of_descriptors_) return system_error(EMFILE, "open " + path);
  auto at = names_.find(path);
  bool creates = mode != Mode::read && at == names_.end();
  CKPT_TRY(step(creates ? Call::grows : Call::plain));
  if (mode == Mode::create_new && at != names_.end()) return Error{Code::exists, EEXIST, "create " + path};
  if (mode == Mode::read && at == names_.end()) return system_error(ENOENT, "open " + path);
  if (creates) {
    if (!folders_.contains(folder_of(path))) return system_error(ENOENT, "open " + path);
    set_name(path, std::make_shared<Inode>());
  }
  return std::unique_ptr<File>(std::make_unique<FaultFile>(*this, names_.at(path), nullptr));
}

Status FaultEnv::rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(step(Call::grows));
  auto at = names_.find(from);
  if (at == names_.end()) return system_error(ENOENT, "rename " + from);
  std::shared_ptr<Inode> inode = at->second;
  // Both happen or none does: one change of the directory, as the same folder is all that is used.
  names_.erase(at);
  auto& changes = folders_[folder_of(to)];
  names_[to] = inode;
  changes.push_back({to, inode});
  changes.push_back({from, nullptr});
  return {};
}

Status FaultEnv::remove(const std::string& path) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(step(Call::plain));
  if (!names_.contains(path)) return system_error(ENOENT, "remove " + path);
  set_name(path, nullptr);
  return {};
}

Status FaultEnv::make_directory(const std::string& path) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(step(Call::grows));
  folders_[path];
  return {};
}

Status FaultEnv::sync_directory(const std::string& path) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(step(Call::grows));
  for (const NameChange& change : folders_[path]) put_name(durable_names_, change.path, change.inode);
  folders_[path].clear();
  return {};
}

Result<std::vector<std::string>> FaultEnv::list(const std::string& path) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(step(Call::plain));
  if (!folders_.contains(path)) return system_error(ENOENT, "list " + path);
  std::vector<std::string> found;
  for (const auto& [name, inode] : names_) {
    if (folder_of(name) == path) found.push_back(name.substr(path.size() + 1));
  }
  for (const auto& [folder, changes] : folders_) {
    if (folder != path && folder_of(folder) == path) found.push_back(folder.substr(path.size() + 1));
  }
  std::sort(found.begin(), found.end());
  return found;
}

Result<std::unique_ptr<File>> FaultEnv::lock(const std::string& path) {
  std::lock_guard lock(mutex_);
  CKPT_TRY(step(Call::plain));
  if (!locks_[path].expired()) return make_error(Code::busy, path + " is held by process 0");
  auto token = std::make_shared<int>(0);
  locks_[path] = token;
  if (!names_.contains(path)) set_name(path, std::make_shared<Inode>());
  return std::unique_ptr<File>(std::make_unique<FaultFile>(*this, names_.at(path), token));
}

Status FaultEnv::random(std::span<std::uint8_t> out) {
  std::lock_guard lock(mutex_);
  for (auto& byte : out) byte = static_cast<std::uint8_t>(engine_());
  return {};
}

}  // namespace ckpt
