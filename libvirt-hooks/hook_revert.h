// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the hook does for `virsh snapshot-revert` (doc/libvirt.md, Native snapshots), which libvirt tells it of only as
// a start.
#pragma once

#include <string>

#include "common/paths.h"
#include "domain_xml.h"

namespace libvirt_hooks {

// When this start is that of a point that is a snapshot, it is prepared; another is none of ours. An error: it must not
// start.
ckpt::Status begin_revert(const ckptd::RunDir& run_dir, const DomainXml& domain, const std::string& xml);

}  // namespace libvirt_hooks
