// SPDX-License-Identifier: LGPL-2.1-or-later
//
// XML of libvirt's snapshots that are checkpoints (doc/libvirt.md, Native snapshots).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "restore_xml.h"

namespace libvirt_hooks {

struct Snapshot {
  std::string name, parent;  // parent: empty: none
  std::string description;
  std::uint64_t created_s = 0;
  bool running = true;  // or paused
  std::string memory_file;
};

// As `virsh snapshot-create --redefine` takes it.
ckpt::Result<std::string> snapshot_xml(const Snapshot& snapshot, const std::string& domain_xml);

// Of a snapshot that libvirt has; empty: none of its own.
ckpt::Result<std::string> memory_file_of(const std::string& xml);

// Where the image of a snapshot's disk is to be, which is no image of `virsh restore`'s: beside that.
std::string snapshot_disk_file(const std::string& image_file);

// The domain with the passwords of its consoles, which libvirt tells no hook, as `present` has them.
ckpt::Result<std::string> with_passwords(const std::string& domain_xml, const std::string& present);

}  // namespace libvirt_hooks
