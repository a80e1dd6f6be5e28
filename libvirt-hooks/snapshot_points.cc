// SPDX-License-Identifier: LGPL-2.1-or-later
#include "snapshot_points.h"

#include "common/text.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::Json;

namespace {

constexpr std::uint64_t version = 1;
constexpr std::size_t point_limit = 1024, disk_limit = 256;

ckpt::Result<std::vector<ImageDisk>> read_disks(const Json& json) {
  const Json list = json.value("disks", Json::array());
  if (!list.is_array() || list.size() > disk_limit) return make_error(Code::invalid, "a point's disks are no list");
  std::vector<ImageDisk> disks;
  for (const Json& item : list) {
    if (!item.is_object()) return make_error(Code::invalid, "a disk is no object");
    ImageDisk& disk = disks.emplace_back();
    CKPT_ASSIGN(disk.target, ckptd::required_string(item, "target"));
    CKPT_ASSIGN(disk.name, ckptd::required_string(item, "name"));
    CKPT_ASSIGN(disk.file, ckptd::required_string(item, "file"));
  }
  return disks;
}

ckpt::Result<SnapshotPoints> from_json(const Json& json) {
  if (ckptd::number_of(json, "version") != version) return make_error(Code::version, "it is of another version");
  SnapshotPoints found;
  CKPT_ASSIGN(found.machine, ckptd::required_string(json, "machine"));
  CKPT_TRY(ckptd::check_machine_name(found.machine));
  const Json list = json.value("points", Json::array());
  if (!list.is_array() || list.size() > point_limit) return make_error(Code::invalid, "its points are no list");
  for (const Json& item : list) {
    if (!item.is_object()) return make_error(Code::invalid, "a point is no object");
    CKPT_ASSIGN(std::uint64_t number, ckptd::number_field(item, "number"));
    SnapshotPoint& point = found.points[number];
    CKPT_ASSIGN(point.snapshot, ckptd::required_string(item, "snapshot"));
    point.wall_clock_ns = ckptd::number_of(item, "wall_clock_ns");
    point.published = ckptd::flag_of(item, "published");
    point.deleted = ckptd::flag_of(item, "deleted");
    CKPT_ASSIGN(point.disks, read_disks(item));
  }
  return found;
}

}  // namespace

ckpt::Result<SnapshotPoints> read_points(const std::string& path) {
  CKPT_ASSIGN(Json json, ckptd::read_json_file(path));
  auto points = from_json(json);
  if (!points.ok()) return make_error(points.error().code, path + ": " + points.error().message());
  return points;
}

ckpt::Status write_points(const std::string& path, const SnapshotPoints& points, os::Durable durable) {
  Json list = Json::array();
  for (const auto& [number, point] : points.points) {
    Json disks = Json::array();
    for (const auto& disk : point.disks)
      disks.push_back({{"target", disk.target}, {"name", disk.name}, {"file", disk.file}});
    list.push_back({{"number", number},
                    {"snapshot", point.snapshot},
                    {"wall_clock_ns", point.wall_clock_ns},
                    {"published", point.published},
                    {"deleted", point.deleted},
                    {"disks", disks}});
  }
  return ckptd::write_json_file(path, {{"version", version}, {"machine", points.machine}, {"points", list}}, durable);
}

}  // namespace libvirt_hooks
