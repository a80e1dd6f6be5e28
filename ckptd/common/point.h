// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <vector>

#include "ckpt/store.h"

namespace ckptd {

// The checkpoint that `point` means (doc/control_protocol.md, "point"), of a machine's checkpoints, oldest first.
ckpt::Result<ckpt::CheckpointInfo> resolve_point(const std::string& machine, const std::string& point,
                                                 const std::vector<ckpt::CheckpointInfo>& checkpoints);

// ok when `name` can be given to a checkpoint without being taken for another kind of point.
ckpt::Status check_point_name(const std::string& name);

}  // namespace ckptd
