// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/manifest.h"

#include <set>

#include "format/node.h"

namespace ckpt {

namespace {

constexpr std::string_view manifest_magic = "CKPTMAN1";

Result<ManifestObject> decode_object(ByteReader& reader) {
  ManifestObject entry;
  entry.object.object_class = static_cast<ObjectClass>(reader.u32());
  entry.object.flags = reader.u32();
  entry.object.size_bytes = reader.u64();
  entry.object.page_size_bytes = reader.u32();
  entry.height = reader.u32();
  entry.root = reader.u64();
  entry.object.name = reader.string(max_object_name_bytes);
  if (!reader.ok()) return make_error(Code::corrupt, "manifest is cut short");
  if (Status status = check_object(entry.object); !status) {
    return make_error(Code::corrupt, "manifest: " + status.error().context);
  }
  if (entry.height != tree_height(pages_of(entry.object.size_bytes))) {
    return make_error(Code::corrupt, "manifest: height of " + entry.object.name);
  }
  return entry;
}

}  // namespace

Status check_object(const Object& object) {
  auto number = static_cast<std::uint32_t>(object.object_class);
  if (number < 1 || number > 4) return make_error(Code::invalid, "object of unknown class " + std::to_string(number));
  if (object.name.empty() || object.name.size() > max_object_name_bytes) {
    return make_error(Code::invalid, "object name of " + std::to_string(object.name.size()) + " bytes (1 to 255)");
  }
  if (object.size_bytes > max_object_bytes) return make_error(Code::invalid, "object " + object.name + " is too large");
  return {};
}

void encode_manifest(Bytes& out, const Manifest& manifest) {
  ByteWriter writer(out);
  writer.bytes(as_bytes(manifest_magic));
  writer.u32(manifest_version);
  writer.u32(static_cast<std::uint32_t>(manifest.objects.size()));
  writer.u64(manifest.wall_clock_ns);
  writer.u64(manifest.vm_clock_ns);
  writer.u32(static_cast<std::uint32_t>(manifest.run_state));
  writer.u32(manifest.pause_us);
  writer.string(manifest.qemu_version);
  writer.string(manifest.machine_type);
  for (const ManifestObject& entry : manifest.objects) {
    writer.u32(static_cast<std::uint32_t>(entry.object.object_class));
    writer.u32(entry.object.flags);
    writer.u64(entry.object.size_bytes);
    writer.u32(entry.object.page_size_bytes);
    writer.u32(entry.height);
    writer.u64(entry.root);
    writer.string(entry.object.name);
  }
}

Result<Manifest> decode_manifest(ByteView bytes) {
  ByteReader reader(bytes);
  ByteView magic = reader.bytes(manifest_magic.size());
  if (!reader.ok() || !std::equal(magic.begin(), magic.end(), as_bytes(manifest_magic).begin())) {
    return make_error(Code::corrupt, "not a manifest");
  }
  std::uint32_t version = reader.u32();
  if (reader.ok() && version > manifest_version) {
    return make_error(Code::version, "manifest of version " + std::to_string(version));
  }
  Manifest manifest;
  std::uint32_t count = reader.u32();
  manifest.wall_clock_ns = reader.u64();
  manifest.vm_clock_ns = reader.u64();
  std::uint32_t run_state = reader.u32();
  manifest.pause_us = reader.u32();
  manifest.qemu_version = reader.string(max_info_string_bytes);
  manifest.machine_type = reader.string(max_info_string_bytes);
  if (!reader.ok() || count > max_objects) return make_error(Code::corrupt, "manifest head out of range");
  if (run_state < 1 || run_state > 3) return make_error(Code::corrupt, "manifest: run state");
  manifest.run_state = static_cast<RunState>(run_state);
  std::set<std::pair<std::uint32_t, std::string>> names;
  for (std::uint32_t i = 0; i < count; ++i) {
    CKPT_ASSIGN(ManifestObject entry, decode_object(reader));
    if (!names.emplace(static_cast<std::uint32_t>(entry.object.object_class), entry.object.name).second) {
      return make_error(Code::corrupt, "manifest: two objects named " + entry.object.name);
    }
    manifest.objects.push_back(std::move(entry));
  }
  if (!reader.finished()) return make_error(Code::corrupt, "manifest has a tail");
  return manifest;
}

}  // namespace ckpt
