// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>

#include "ckpt/result.h"
#include "ckpt/store.h"
#include "format/stream_codec.h"

namespace ckpt {

// What a client is told in WELCOME, and the checkpoint that its first epoch builds upon.
struct Continuation {
  wire::WelcomeMode mode = wire::WelcomeMode::full;
  std::uint64_t next_epoch = 1;
  std::uint64_t last_durable = 0;
  CheckpointId parent;  // number 0 when the mode is full
};

// `base`: the checkpoint that the machine is known to have been restored from; number 0: none. `start_anew`: never
// continue. Errors: not_found (the store does not know the machine), limit (the machine's epoch numbers are used up).
Result<Continuation> decide_continuation(const Store& store, const std::string& machine, const wire::Hello& hello,
                                         const CheckpointId& base, bool start_anew);

}  // namespace ckpt
