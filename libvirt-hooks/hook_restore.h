// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the hook does for a restore that libvirt runs (doc/libvirt.md, Native restore): the only part of it that asks
// ckptd.
#pragma once

#include <string>
#include <vector>

#include "common/paths.h"
#include "domain_xml.h"
#include "restore_xml.h"

namespace libvirt_hooks {

// ckptd opens the image's point, pins it and makes its disks; what is prepared is noted for `start`. `revert`: the
// disks are to be where the image says. After an error nothing is left of it.
ckpt::Result<std::vector<PlacedDisk>> prepare_restore(const ckptd::RunDir& run_dir, const Image& image, bool revert);

// The XML that libvirt is to run instead; empty: it names no checkpoint. After an error nothing is left of it.
ckpt::Result<std::string> begin_restore(const ckptd::RunDir& run_dir, const std::string& xml);

// It does not run.
void drop_restore(const ckptd::RunDir& run_dir, const std::string& uuid);

// The domain, whose file is written, starts: when it is the one that was prepared, what serves it runs when this
// returns, and the launcher will know of it. An error: it must not start.
ckpt::Status start_restore(const ckptd::RunDir& run_dir, const DomainXml& domain, const std::string& xml);

}  // namespace libvirt_hooks
