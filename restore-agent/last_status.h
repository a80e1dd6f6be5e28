// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the agent before this one has left in its status file, for its successor to go on from.
#pragma once

#include <nlohmann/json.hpp>

#include "options.h"

namespace agent {

struct LastStatus {
  // It had the machine's memory and was not done with it: the machine waits for us.
  bool had_memory = false;
  nlohmann::json service;  // as ServiceLevel::to_json() gave it
};

// The file is optional and hostile: without one of this checkpoint that makes sense, nothing was before.
LastStatus read_last_status(const Options& options);

}  // namespace agent
