// SPDX-License-Identifier: LGPL-2.1-or-later
#include "machine_model.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/hash.h"

namespace ckpt::tools {
namespace {

constexpr std::uint64_t page_bytes = 4096;

std::uint64_t scramble(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

void fill_random(std::uint64_t seed, std::span<std::uint8_t> out) {
  Random random(seed);
  std::size_t at = 0;
  for (; at + 8 <= out.size(); at += 8) store_le(out.data() + at, random.next());
  for (; at < out.size(); ++at) out[at] = static_cast<std::uint8_t>(random.next());
}

}  // namespace

std::uint64_t Random::next() {
  state_ += 0x9E3779B97F4A7C15;
  return scramble(state_);
}

std::uint64_t page_digest(ByteView page, std::uint64_t index) { return is_zero(page) ? 0 : checksum(page, index + 1); }

std::string MachineDigest::text() const {
  char text[80];
  std::snprintf(text, sizeof text, "ram=%016llx disk=%016llx device=%016llx", static_cast<unsigned long long>(ram),
                static_cast<unsigned long long>(disk), static_cast<unsigned long long>(device));
  return text;
}

Result<MachineDigest> digest_of(CheckpointReader& reader) {
  MachineDigest digest;
  std::array<std::uint8_t, page_bytes> page;
  for (std::size_t index = 0; index < reader.objects().size(); ++index) {
    const Object& object = reader.objects()[index];
    std::uint64_t sum = 0;
    for (std::uint64_t number = 0; number * page_bytes < object.size_bytes; ++number) {
      CKPT_ASSIGN(bool present, reader.read_page(index, number, page));
      if (present) sum += page_digest(page, number);
    }
    if (object.object_class == ObjectClass::ram) digest.ram += sum;
    if (object.object_class == ObjectClass::disk) digest.disk += sum;
    if (object.object_class == ObjectClass::device_state) digest.device += sum;
  }
  return digest;
}

ModelObject::ModelObject(Object object, std::uint64_t unit_bytes, std::uint64_t seed, unsigned compressible_percent)
    : object_(std::move(object)),
      unit_bytes_(unit_bytes),
      seed_(seed),
      compressible_percent_(compressible_percent),
      versions_(object_.size_bytes / unit_bytes, 1),
      page_digests_((object_.size_bytes + page_bytes - 1) / page_bytes, 0) {
  for (std::uint64_t page = 0; page < page_digests_.size(); ++page) update_digest(page);
}

std::uint64_t ModelObject::mix(std::uint64_t unit, std::uint32_t version) const {
  return scramble(scramble(seed_ ^ unit * 0x9E3779B97F4A7C15) + version);
}

bool ModelObject::is_zero(std::uint64_t unit, std::uint32_t version) const { return mix(unit, version) % 8 == 0; }

void ModelObject::fill(std::uint64_t unit, std::uint32_t version, std::span<std::uint8_t> out) const {
  if (is_zero(unit, version)) {
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    return;
  }
  std::uint64_t seed = mix(unit, version);
  std::size_t plain = out.size() * compressible_percent_ / 100;
  std::fill_n(out.begin(), plain, static_cast<std::uint8_t>(seed | 1));
  fill_random(seed, out.subspan(plain));
}

void ModelObject::change(std::uint64_t unit) {
  ++versions_[unit];
  update_digest(unit * unit_bytes_ / page_bytes);
}

void ModelObject::update_digest(std::uint64_t page) {
  std::array<std::uint8_t, page_bytes> content{};
  std::uint64_t per_page = page_bytes / unit_bytes_;
  for (std::uint64_t i = 0; i < per_page && page * per_page + i < versions_.size(); ++i) {
    std::uint64_t unit = page * per_page + i;
    fill(unit, versions_[unit], std::span(content).subspan(i * unit_bytes_, unit_bytes_));
  }
  digest_ -= page_digests_[page];
  page_digests_[page] = page_digest(content, page);
  digest_ += page_digests_[page];
}

MachineModel::MachineModel(const MachineOptions& options)
    : options_(options),
      objects_{ModelObject({ObjectClass::ram, "pc.ram", options.ram_bytes / page_bytes * page_bytes, page_bytes, 0},
                           page_bytes, options.seed * 2 + 1, options.compressible_percent),
               ModelObject({ObjectClass::disk, "disk0", options.disk_bytes / 512 * 512, 0, 0}, 512,
                           options.seed * 2 + 2, options.compressible_percent)} {}

Bytes MachineModel::device_state(std::uint64_t number) const {
  Bytes bytes(options_.device_bytes);
  fill_random(scramble(options_.seed + 3) + number, bytes);
  return bytes;
}

MachineDigest MachineModel::digest(ByteView device_state) const {
  MachineDigest digest{objects_[ram].digest(), objects_[disk].digest(), 0};
  for (std::size_t at = 0; at < device_state.size(); at += page_bytes) {
    std::array<std::uint8_t, page_bytes> page{};
    std::memcpy(page.data(), device_state.data() + at, std::min<std::size_t>(page_bytes, device_state.size() - at));
    digest.device += page_digest(page, at / page_bytes);
  }
  return digest;
}

}  // namespace ckpt::tools
