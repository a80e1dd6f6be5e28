// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>
#include <string>

#include "ckpt/env.h"
#include "store/backend.h"

namespace ckpt {

// A directory of the local file system.
std::unique_ptr<Backend> make_local_backend(Env& env, std::string path);

}  // namespace ckpt
