// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdio>
#include <cstdlib>

namespace ckpt::detail {
[[noreturn]] inline void check_failed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, what);
  std::abort();
}
}  // namespace ckpt::detail

// For our own mistakes only, never for input. On in production: a store that is wrong about itself must not go on
// writing.
#define CKPT_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::ckpt::detail::check_failed(__FILE__, __LINE__, #condition))
