// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The one I/O seam under everything durable. The real implementation talks to the kernel; tests wrap it to cut the
// power, tear sectors, fill the disk and flip bits at any call. Env may be used from several threads, and so may a
// File, but for calls that change the same bytes or the size. Any call may fail with io; where nothing else is said, a
// call that failed has changed nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ckpt/result.h"

namespace ckpt {

class File {
public:
  virtual ~File() = default;

  // Reads up to out.size() bytes at offset; fewer only at the end of the file.
  virtual Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) = 0;
  // Writes all of it or fails, with no_space for one; after a failure any part may have been written.
  virtual Status write_at(std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
  // Data and size are durable. After a failure nobody knows what of the writes since the last sync is.
  virtual Status sync() = 0;
  // Both, as one request where the system can.
  virtual Status write_and_sync(std::uint64_t offset, std::span<const std::uint8_t> data) {
    CKPT_TRY(write_at(offset, data));
    return sync();
  }
  virtual Status truncate(std::uint64_t size) = 0;
  virtual Result<std::uint64_t> size() = 0;
};

class Env {
public:
  virtual ~Env() = default;

  // The process-wide one, on io_uring where the kernel has it.
  static Env& system();

  // read: not_found when it is not there. write: reads and writes, and makes it when it is not there. create_new: the
  // same, exists when it is there.
  enum class Mode { read, write, create_new };
  virtual Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;  // replaces `to`; not_found
  virtual Status remove(const std::string& path) = 0;                         // not_found
  virtual Status make_directory(const std::string& path) = 0;                 // ok when it is there
  virtual Status sync_directory(const std::string& path) = 0;
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;  // names, sorted; not_found
  // Held until the returned handle is destroyed or the process dies. busy: context names the holder's pid.
  virtual Result<std::unique_ptr<File>> lock(const std::string& path) = 0;
  virtual Result<std::uint64_t> free_bytes(const std::string& path) = 0;
  virtual std::uint64_t now_ns() = 0;  // CLOCK_REALTIME
  virtual Status random(std::span<std::uint8_t> out) = 0;
};

}  // namespace ckpt
