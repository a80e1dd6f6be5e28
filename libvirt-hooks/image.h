// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A checkpoint of a domain as what `virsh restore` takes (doc/libvirt.md, Native restore).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ckpt/store.h"
#include "common/json.h"
#include "common/paths.h"

namespace libvirt_hooks {

// What the store has of a domain at a point.
struct StoredDomain {
  ckpt::CheckpointId id;
  std::uint64_t wall_clock_ns = 0;
  std::string uuid, xml;
  std::vector<std::string> disks;  // their names in the checkpoint
  bool ran = false;
  std::string device_state;
};
// Errors: refused (it is no domain's), and those of ckptd and the store.
ckpt::Result<StoredDomain> stored_domain(const ckptd::RunDir& run_dir, const std::string& machine,
                                         const std::string& point);

struct Wanted {
  std::string machine, point;
  std::string file;  // empty: MACHINE@NUMBER.save here
};

// libvirt's save image, version 2, raw: header, XML, and what QEMU reads from its incoming migration.
std::string save_image(std::string_view xml, bool was_running, std::string_view device_state);

// Replaces the file as a whole, mode 0600. The answer: `file`, `checkpoint`, `wall_clock_ns`, `size_bytes`.
ckpt::Result<ckptd::Json> write_image(const ckptd::RunDir& run_dir, const Wanted& wanted);

}  // namespace libvirt_hooks
