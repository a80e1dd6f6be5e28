// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a store needs of a place that keeps it: named blobs that grow at their end. A directory is one
// (local_backend.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "ckpt/result.h"

namespace ckpt {

class Blob {
public:
  virtual ~Blob() = default;

  // Up to out.size() bytes; fewer only at the end.
  virtual Result<std::size_t> read(std::uint64_t offset, std::span<std::uint8_t> out) = 0;
  // At the end. After a failure a part may be there: cut() takes it away.
  virtual Status append(ByteView data) = 0;
  // Content and existence are durable. May be called while another thread reads or appends. Of two at once, one may be
  // told of a failure and the other not.
  virtual Status sync() = 0;
  // append and sync.
  virtual Status append_synced(ByteView data) = 0;
  virtual Status cut(std::uint64_t size) = 0;
  // Bytes in it now; grows under a reader while a writer appends.
  virtual Result<std::uint64_t> size() = 0;
};

class Backend {
public:
  virtual ~Backend() = default;

  // Errors: not_found.
  virtual Result<std::unique_ptr<Blob>> open(const std::string& name) = 0;
  // For appending to what is there.
  virtual Result<std::unique_ptr<Blob>> open_for_append(const std::string& name) = 0;
  // A new one, empty; what had the name before is gone.
  virtual Result<std::unique_ptr<Blob>> create(const std::string& name) = 0;
  virtual Status remove(const std::string& name) = 0;
  // `from`, whole and synced, takes the place of `to`: durable before it returns. not_done tells the two failures
  // apart: before the exchange (true: nothing has happened), or after it (false: which of them survives a power cut is
  // open).
  virtual Status replace(const std::string& from, const std::string& to, bool& not_done) = 0;
  // Names in "" or "segments/", without it, sorted.
  virtual Result<std::vector<std::string>> list(const std::string& folder) = 0;
  virtual Result<std::uint64_t> free_bytes() = 0;
};

// The disk cannot read this place; unlike a want of descriptors or memory, which says nothing of what is there.
bool is_bad_place(const Error& error);

// All of `length` bytes, or corrupt.
Result<Bytes> read_exactly(Blob& blob, std::uint64_t offset, std::size_t length);
Status read_exactly(Blob& blob, std::uint64_t offset, std::span<std::uint8_t> out);

}  // namespace ckpt
