// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include "memory_map.h"

namespace agent {

// After a takeover: marks what the process's page tables already hold, so that it is not read again. Only a saving:
// without the right to look, nothing is marked. Returns the number of 4 KiB pages found.
std::uint64_t find_present(pid_t pid, MemoryMap& map);

}  // namespace agent
