// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "ckpt/env.h"

namespace ckpt {

// Plain system calls. The base of the io_uring one, which replaces write and sync only.
class PosixFile : public File {
public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override;
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override;
  Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  Status sync() override;
  Status truncate(std::uint64_t size) override;
  Result<std::uint64_t> size() override;

protected:
  Error failed(const char* what, int error) const;

  int fd_;
  std::string path_;
};

class PosixEnv : public Env {
public:
  Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status make_directory(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<std::unique_ptr<File>> lock(const std::string& path) override;
  Result<std::uint64_t> free_bytes(const std::string& path) override;
  std::uint64_t now_ns() override;
  Status random(std::span<std::uint8_t> out) override;

protected:
  virtual std::unique_ptr<File> make_file(int fd, const std::string& path);
};

}  // namespace ckpt
