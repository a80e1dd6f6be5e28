// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Counts what goes through the I/O seam to another environment.
#pragma once

#include <atomic>

#include "forwarding_env.h"

namespace bench {

struct IoCounts {
  std::atomic<std::uint64_t> writes = 0, bytes_written = 0, syncs = 0, reads = 0, bytes_read = 0, opens = 0;

  void reset() { writes = bytes_written = syncs = reads = bytes_read = opens = 0; }
};

class CountingFile : public ForwardingFile {
public:
  CountingFile(std::unique_ptr<ckpt::File> below, IoCounts& counts)
      : ForwardingFile(std::move(below)), counts_(counts) {}

  ckpt::Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override {
    ++counts_.reads;
    auto n = ForwardingFile::read_at(offset, out);
    if (n.ok()) counts_.bytes_read += *n;
    return n;
  }
  ckpt::Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    ++counts_.writes;
    counts_.bytes_written += data.size();
    return ForwardingFile::write_at(offset, data);
  }
  ckpt::Status sync() override {
    ++counts_.syncs;
    return ForwardingFile::sync();
  }

private:
  IoCounts& counts_;
};

class CountingEnv : public ForwardingEnv {
public:
  using ForwardingEnv::ForwardingEnv;

  IoCounts counts;

  ckpt::Result<std::unique_ptr<ckpt::File>> open(const std::string& path, Mode mode) override {
    ++counts.opens;
    CKPT_ASSIGN(auto file, ForwardingEnv::open(path, mode));
    return std::unique_ptr<ckpt::File>(new CountingFile(std::move(file), counts));
  }
  ckpt::Status sync_directory(const std::string& path) override {
    ++counts.syncs;
    return ForwardingEnv::sync_directory(path);
  }
};

}  // namespace bench
