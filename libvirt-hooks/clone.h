// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A checkpoint of a domain as another domain that runs beside it (doc/libvirt.md, Clones).
#pragma once

#include <string>

#include "common/json.h"
#include "common/paths.h"

namespace libvirt_hooks {

struct CloneWish {
  std::string machine, point;
  std::string name;        // of the clone
  bool paused = false;     // does not run yet
  bool transient = false;  // is not defined
  bool connected = false;  // its network cards stay plugged in
};

// libvirt runs it when this returns; the answer is that of `ckptctl clone` (doc/control_protocol.md). Errors: exists
// (libvirt or ckptd knows the name), those of read_recorded(), and libvirt's; after any of them there is no clone.
ckpt::Result<ckptd::Json> clone_domain(const std::string& uri, const ckptd::RunDir& run_dir, const CloneWish& wish);

}  // namespace libvirt_hooks
