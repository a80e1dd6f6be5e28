// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Counts what goes through the I/O seam to another environment.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/env.h"

namespace bench {

struct IoCounts {
  std::atomic<std::uint64_t> writes = 0, bytes_written = 0, syncs = 0, reads = 0, bytes_read = 0, opens = 0;

  void reset() { writes = bytes_written = syncs = reads = bytes_read = opens = 0; }
};

class CountingFile : public ckpt::File {
public:
  CountingFile(std::unique_ptr<ckpt::File> below, IoCounts& counts) : below_(std::move(below)), counts_(counts) {}

  ckpt::Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override {
    ++counts_.reads;
    auto n = below_->read_at(offset, out);
    if (n.ok()) counts_.bytes_read += *n;
    return n;
  }
  ckpt::Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    ++counts_.writes;
    counts_.bytes_written += data.size();
    return below_->write_at(offset, data);
  }
  ckpt::Status sync() override {
    ++counts_.syncs;
    return below_->sync();
  }
  ckpt::Status truncate(std::uint64_t size) override { return below_->truncate(size); }
  ckpt::Result<std::uint64_t> size() override { return below_->size(); }

private:
  std::unique_ptr<ckpt::File> below_;
  IoCounts& counts_;
};

class CountingEnv : public ckpt::Env {
public:
  explicit CountingEnv(ckpt::Env& below) : below_(below) {}

  IoCounts counts;

  ckpt::Result<std::unique_ptr<ckpt::File>> open(const std::string& path, Mode mode) override {
    ++counts.opens;
    CKPT_ASSIGN(auto file, below_.open(path, mode));
    return std::unique_ptr<ckpt::File>(new CountingFile(std::move(file), counts));
  }
  ckpt::Status rename(const std::string& from, const std::string& to) override { return below_.rename(from, to); }
  ckpt::Status remove(const std::string& path) override { return below_.remove(path); }
  ckpt::Status make_directory(const std::string& path) override { return below_.make_directory(path); }
  ckpt::Status sync_directory(const std::string& path) override {
    ++counts.syncs;
    return below_.sync_directory(path);
  }
  ckpt::Result<std::vector<std::string>> list(const std::string& path) override { return below_.list(path); }
  ckpt::Result<std::unique_ptr<ckpt::File>> lock(const std::string& path) override { return below_.lock(path); }
  ckpt::Result<std::uint64_t> free_bytes(const std::string& path) override { return below_.free_bytes(path); }
  std::uint64_t now_ns() override { return below_.now_ns(); }
  ckpt::Status random(std::span<std::uint8_t> out) override { return below_.random(out); }

private:
  ckpt::Env& below_;
};

}  // namespace bench
