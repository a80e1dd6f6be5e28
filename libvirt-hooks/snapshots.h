// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Named points of a machine as libvirt's snapshots of its domain (doc/libvirt.md, Native snapshots).
#pragma once

#include <string>

#include "common/json.h"
#include "common/paths.h"

namespace libvirt_hooks {

// Makes libvirt's snapshots of a domain what `wishes` says: `machine`, `uuid`, `directory` (for the memory files),
// `points`: [{`number`, `wall_clock_ns`, `name`, `parent` (a name, or empty), `pinned`}], parents first. Those that are
// none of ours stay. The answer: `published`: [number] (what libvirt may be asked to revert to, wished or not: these
// must stay pinned), `to_pin`: [number] (would be published if they were), `troubles`: [text].
ckpt::Result<ckptd::Json> publish_snapshots(const std::string& uri, const ckptd::RunDir& run_dir,
                                            const std::string& wishes);

}  // namespace libvirt_hooks
