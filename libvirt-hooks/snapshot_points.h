// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which of a machine's points are libvirt's snapshots: what the bridge notes for itself and for the hook
// (doc/libvirt.md, Files).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/json.h"
#include "restore_xml.h"

namespace libvirt_hooks {

struct SnapshotPoint {
  std::string snapshot;             // its name
  std::uint64_t wall_clock_ns = 0;  // of the checkpoint: another store may have one of this number
  bool published = false;           // libvirt has had it
  bool deleted = false;             // by virsh: it is not published again
  std::vector<ImageDisk> disks;
};

struct SnapshotPoints {
  std::string machine;
  std::map<std::uint64_t, SnapshotPoint> points;  // by number
};

// Errors: not_found, version, invalid, limit.
ckpt::Result<SnapshotPoints> read_points(const std::string& path);
ckpt::Status write_points(const std::string& path, const SnapshotPoints& points, os::Durable durable);

}  // namespace libvirt_hooks
