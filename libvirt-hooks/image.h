// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A checkpoint of a domain as what `virsh restore` takes (doc/libvirt.md, Native restore).
#pragma once

#include <string>
#include <string_view>

#include "common/json.h"
#include "common/paths.h"

namespace libvirt_hooks {

struct Wanted {
  std::string machine, point;
  std::string file;  // empty: MACHINE@NUMBER.save here
};

// libvirt's save image, version 2, raw: header, XML, and what QEMU reads from its incoming migration.
std::string save_image(std::string_view xml, bool was_running, std::string_view device_state);

// Replaces the file as a whole, mode 0600. The answer: `file`, `checkpoint`, `wall_clock_ns`, `size_bytes`.
ckpt::Result<ckptd::Json> write_image(const ckptd::RunDir& run_dir, const Wanted& wanted);

}  // namespace libvirt_hooks
