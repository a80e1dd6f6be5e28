// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The I/O seam passed on to another environment: for those that change a call or two.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/env.h"

namespace bench {

class ForwardingFile : public ckpt::File {
public:
  explicit ForwardingFile(std::unique_ptr<ckpt::File> below) : below_(std::move(below)) {}

  ckpt::Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override {
    return below_->read_at(offset, out);
  }
  ckpt::Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return below_->write_at(offset, data);
  }
  ckpt::Status sync() override { return below_->sync(); }
  ckpt::Status truncate(std::uint64_t size) override { return below_->truncate(size); }
  ckpt::Result<std::uint64_t> size() override { return below_->size(); }

private:
  std::unique_ptr<ckpt::File> below_;
};

class ForwardingEnv : public ckpt::Env {
public:
  explicit ForwardingEnv(ckpt::Env& below) : below_(below) {}

  ckpt::Result<std::unique_ptr<ckpt::File>> open(const std::string& path, Mode mode) override {
    return below_.open(path, mode);
  }
  ckpt::Status rename(const std::string& from, const std::string& to) override { return below_.rename(from, to); }
  ckpt::Status remove(const std::string& path) override { return below_.remove(path); }
  ckpt::Status make_directory(const std::string& path) override { return below_.make_directory(path); }
  ckpt::Status sync_directory(const std::string& path) override { return below_.sync_directory(path); }
  ckpt::Result<std::vector<std::string>> list(const std::string& path) override { return below_.list(path); }
  ckpt::Result<std::unique_ptr<ckpt::File>> lock(const std::string& path) override { return below_.lock(path); }
  ckpt::Result<std::uint64_t> free_bytes(const std::string& path) override { return below_.free_bytes(path); }
  std::uint64_t now_ns() override { return below_.now_ns(); }
  ckpt::Status random(std::span<std::uint8_t> out) override { return below_.random(out); }

private:
  ckpt::Env& below_;
};

}  // namespace bench
