// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Protection of a domain, changed for the admin who prefers a command to XML.
#pragma once

#include <string>

#include "common/json.h"
#include "common/paths.h"
#include "connection.h"

namespace libvirt_hooks {

struct Wish {
  std::string domain;
  std::string interval, retention, consistent;  // empty: as they are
};

// The element is there, and <emulator> names the launcher. The answer: `domain` (null: there is none of this name, and
// nothing was done), `running`, `error` (why it is not protected while it runs on, or empty).
ckpt::Result<ckptd::Json> protect_domain(const std::string& uri, const ckptd::RunDir& run_dir, const Wish& wish);
// The element is gone; `domain` is null when there was none. The launcher stays: without an element it starts QEMU and
// nothing else.
ckpt::Result<ckptd::Json> unprotect_domain(const std::string& uri, const ckptd::RunDir& run_dir,
                                           const std::string& name);

}  // namespace libvirt_hooks
