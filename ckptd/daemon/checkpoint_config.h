// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "ckpt/store.h"
#include "common/json.h"

namespace ckptd {

// The configuration that the checkpoint carries (doc/control_protocol.md); an empty object when it has none.
ckpt::Result<Json> read_config(ckpt::CheckpointReader& reader);

}  // namespace ckptd
