// SPDX-License-Identifier: LGPL-2.1-or-later
//
// For programs that end with the first error.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "ckpt/result.h"

namespace bench {

inline void must(const ckpt::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, status.error().message().c_str());
  std::exit(1);
}

template <typename T>
T must(ckpt::Result<T> result) {
  if (!result.ok()) must(ckpt::Status(result.error()));
  return result.take();
}

}  // namespace bench
