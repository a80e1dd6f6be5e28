// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The disks of a restored domain, as libvirt is to know them.
#pragma once

#include <string>
#include <vector>

#include "common/json.h"

namespace libvirt_hooks {

struct DomainDisks {
  std::string uuid;
  std::vector<std::string> disks;  // their targets, or their images
  std::uint64_t bandwidth_bytes_s = 0;
};

// The domain's definition names them; one that runs without a definition needs none.
ckpt::Result<ckptd::Json> define_disks(const std::string& uri, const DomainDisks& disks);
// Each is pulled, or stands alone: `disks`: [{`file` (as it is now), `local`}].
ckpt::Result<ckptd::Json> pull_disks(const std::string& uri, const DomainDisks& disks);

}  // namespace libvirt_hooks
