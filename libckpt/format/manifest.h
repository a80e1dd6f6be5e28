// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "ckpt/result.h"
#include "ckpt/store.h"
#include "format/location.h"

namespace ckpt {

inline constexpr std::uint32_t manifest_version = 1;
inline constexpr std::size_t max_objects = 4096;
inline constexpr std::size_t max_object_name_bytes = 255;
inline constexpr std::size_t max_info_string_bytes = 1024;
inline constexpr std::uint64_t max_object_bytes = 1ull << 46;
inline constexpr std::uint32_t max_manifest_bytes = 2u << 20;

struct ManifestObject {
  Object object;
  unsigned height = 0;
  Location root = 0;
};

struct Manifest {
  std::uint64_t wall_clock_ns = 0;
  std::uint64_t vm_clock_ns = 0;
  RunState run_state = RunState::running;
  std::uint32_t pause_us = 0;
  std::string qemu_version;
  std::string machine_type;
  std::vector<ManifestObject> objects;
};

constexpr std::uint64_t pages_of(std::uint64_t bytes) { return (bytes + page_size_bytes - 1) / page_size_bytes; }

// What is true of every object, in a manifest as in begin_epoch().
Status check_object(const Object& object);

void encode_manifest(Bytes& out, const Manifest& manifest);
Result<Manifest> decode_manifest(ByteView bytes);

}  // namespace ckpt
