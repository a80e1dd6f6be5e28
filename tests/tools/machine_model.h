// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A machine without QEMU: memory, a disk and device state whose bytes follow from a seed and how often each place was
// written. It knows at any instant what a checkpoint of it must hold, and needs a few bytes per page for that.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "ckpt/store.h"

namespace ckpt::tools {

// Of an object's content: the sum over its pages, so that one page's change costs one page. Zero pages do not count.
std::uint64_t page_digest(ByteView page, std::uint64_t index);

struct MachineDigest {
  std::uint64_t ram = 0;
  std::uint64_t disk = 0;
  std::uint64_t device = 0;

  bool operator==(const MachineDigest&) const = default;
  std::string text() const;
};

// The same of what a checkpoint holds.
Result<MachineDigest> digest_of(CheckpointReader& reader);

// Small, fast, and the same everywhere.
class Random {
public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }

private:
  std::uint64_t state_;
};

// RAM or a disk, in units of what can be written at once.
class ModelObject {
public:
  ModelObject(Object object, std::uint64_t unit_bytes, std::uint64_t seed, unsigned compressible_percent);

  const Object& object() const { return object_; }
  std::uint64_t unit_bytes() const { return unit_bytes_; }
  std::uint64_t units() const { return versions_.size(); }
  std::uint32_t version(std::uint64_t unit) const { return versions_[unit]; }
  std::uint64_t digest() const { return digest_; }

  void change(std::uint64_t unit);
  bool is_zero(std::uint64_t unit, std::uint32_t version) const;
  // out: unit_bytes().
  void fill(std::uint64_t unit, std::uint32_t version, std::span<std::uint8_t> out) const;

private:
  std::uint64_t mix(std::uint64_t unit, std::uint32_t version) const;
  void update_digest(std::uint64_t page);

  Object object_;
  std::uint64_t unit_bytes_;
  std::uint64_t seed_;
  unsigned compressible_percent_;
  std::vector<std::uint32_t> versions_;
  std::vector<std::uint64_t> page_digests_;
  std::uint64_t digest_ = 0;
};

struct MachineOptions {
  std::uint64_t seed = 1;
  std::uint64_t ram_bytes = 16 << 20;
  std::uint64_t disk_bytes = 16 << 20;
  std::uint64_t device_bytes = 80'000;
  unsigned compressible_percent = 50;
};

class MachineModel {
public:
  explicit MachineModel(const MachineOptions& options);

  static constexpr std::size_t ram = 0;
  static constexpr std::size_t disk = 1;
  static constexpr std::size_t count = 2;

  ModelObject& object(std::size_t index) { return objects_[index]; }
  const ModelObject& object(std::size_t index) const { return objects_[index]; }

  // Device state of one instant; different at every call with another number.
  Bytes device_state(std::uint64_t number) const;
  MachineDigest digest(ByteView device_state) const;

private:
  MachineOptions options_;
  std::array<ModelObject, count> objects_;
};

}  // namespace ckpt::tools
