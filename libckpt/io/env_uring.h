// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>

#include "ckpt/env.h"

namespace ckpt {

// Writes and syncs go to the kernel as batches of io_uring requests; the rest is as in PosixEnv: a read that the page
// cache can answer is faster as a system call. Null where the kernel refuses io_uring.
std::unique_ptr<Env> make_uring_env();

}  // namespace ckpt
