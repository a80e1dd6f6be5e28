// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Start here: a session (session.h) meets QEMU (handover.h), then fault_in.h and prefetch.h fill its memory.
#pragma once

#include "ckpt/env.h"

namespace agent {

// The whole program, with the store read through `env`; what main() returns.
int run_agent(int argc, char** argv, ckpt::Env& env);

}  // namespace agent
