// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The disks of a restored libvirt domain. libvirt brings them home itself, so that it knows how they stand; it is asked
// by libvirt-bridge, which may have to wait for it.
#pragma once

#include <vector>

#include "common/restore_state.h"

namespace ckptd {

// The domain's next start finds them too.
ckpt::Result<bool> define_domain_disks(const RestoreState& state, int stop_fd);
// Begins what copies each disk that is not local, where that is not under way: the disks as they are then.
ckpt::Result<std::vector<RestoredDisk>> pull_domain_disks(const RestoreState& state, int stop_fd);

}  // namespace ckptd
