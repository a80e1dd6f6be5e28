// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The system's files, which an admin can take away: then every read and every opening fails, as when a disk or the
// network to it is lost, also of files that are open; or does not come back, as on a network's file system; or takes
// its time.
#pragma once

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include "ckpt/env.h"

namespace ckpt {

class AwayEnv : public Env {
public:
  void set_away(bool away) { away_ = away; }
  void set_silent(bool silent) {
    silent_ = silent;
    silent_.notify_all();
  }
  void set_far(std::chrono::microseconds each_takes) { far_us_ = each_takes.count(); }
  // Calls that have failed for it.
  std::uint64_t failed() const { return failed_; }
  std::uint64_t reads() const { return reads_; }
  // Whether somebody waits for an answer now.
  bool waited_for() const { return waiting_ > 0; }

  Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) override {
    CKPT_TRY(reach());
    CKPT_ASSIGN(auto file, below_.open(path, mode));
    return std::unique_ptr<File>(std::make_unique<AwayFile>(*this, std::move(file)));
  }
  Status rename(const std::string& from, const std::string& to) override { return below_.rename(from, to); }
  Status remove(const std::string& path) override { return below_.remove(path); }
  Status make_directory(const std::string& path) override { return below_.make_directory(path); }
  Status sync_directory(const std::string& path) override { return below_.sync_directory(path); }
  Result<std::vector<std::string>> list(const std::string& path) override {
    CKPT_TRY(reach());
    return below_.list(path);
  }
  Result<std::unique_ptr<File>> lock(const std::string& path) override { return below_.lock(path); }
  Result<std::uint64_t> free_bytes(const std::string& path) override { return below_.free_bytes(path); }
  std::uint64_t now_ns() override { return below_.now_ns(); }
  Status random(std::span<std::uint8_t> out) override { return below_.random(out); }

private:
  class AwayFile : public File {
  public:
    AwayFile(AwayEnv& env, std::unique_ptr<File> below) : env_(env), below_(std::move(below)) {}

    Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override {
      CKPT_TRY(env_.reach());
      ++env_.reads_;
      return below_->read_at(offset, out);
    }
    Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override {
      return below_->write_at(offset, data);
    }
    Status sync() override { return below_->sync(); }
    Status truncate(std::uint64_t size) override { return below_->truncate(size); }
    Result<std::uint64_t> size() override { return below_->size(); }

  private:
    AwayEnv& env_;
    std::unique_ptr<File> below_;
  };

  Status reach() {
    ++waiting_;
    silent_.wait(true);
    --waiting_;
    if (far_us_ > 0) std::this_thread::sleep_for(std::chrono::microseconds(far_us_));
    if (!away_) return {};
    ++failed_;
    return system_error(EIO, "the store's disk is away");
  }

  Env& below_ = Env::system();
  std::atomic<bool> away_{false}, silent_{false};
  std::atomic<std::int64_t> far_us_{0};
  std::atomic<int> waiting_{0};
  std::atomic<std::uint64_t> failed_{0}, reads_{0};
};

}  // namespace ckpt
