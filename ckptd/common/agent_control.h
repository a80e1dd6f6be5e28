// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "common/restore_state.h"

namespace ckptd {

// One line to the control socket of a restore's agent (doc/restore_format.md). Errors: unavailable, or what the agent
// answered.
ckpt::Status tell_agent(const RestoreState& state, const std::string& line);

}  // namespace ckptd
