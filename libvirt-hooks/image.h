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

struct Wanted {
  std::string machine, point;
  std::string file;  // empty: MACHINE@NUMBER.save here
};

// A libvirt domain's checkpoint, as an image is made of it.
struct Recorded {
  ckpt::CheckpointId id;
  std::uint64_t wall_clock_ns = 0;
  bool ran = true;  // or was paused
  bool application_consistent = false;
  std::vector<std::string> disks;  // their names, in the order in which a restore serves them
  std::string xml;                 // the image's
  std::string uuid, domain_xml;    // the domain's, as it was recorded
  std::string device_state;
};
// `point`: as for ckptctl. Errors: refused: it is of no libvirt domain; those of opening it.
ckpt::Result<Recorded> read_recorded(const ckptd::RunDir& run_dir, const std::string& machine,
                                     const std::string& point);

// libvirt's save image, version 2, raw: header, XML, and what QEMU reads from its incoming migration.
std::string save_image(std::string_view xml, bool was_running, std::string_view device_state);

// Replaces the file as a whole, mode 0600. The answer: `file`, `checkpoint`, `wall_clock_ns`, `size_bytes`.
ckpt::Result<ckptd::Json> write_image(const ckptd::RunDir& run_dir, const Wanted& wanted);

}  // namespace libvirt_hooks
