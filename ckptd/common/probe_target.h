// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a restored machine is asked to see that it serves: ckptctl restore --probe.
#pragma once

#include <cstdint>
#include <string>

#include "ckpt/result.h"

namespace ckptd {

struct ProbeTarget {
  enum class Kind { tcp, http, exec };

  std::string text;  // as given
  Kind kind = Kind::tcp;
  std::string host, port;
  std::string line;          // tcp: sent first; empty: the server speaks first
  std::string path;          // http
  unsigned http_status = 0;  // 0: 200 to 399
  std::string command;       // exec: for /bin/sh
};

// "tcp:HOST:PORT[=LINE]", "http://HOST[:PORT][/PATH][=STATUS]", "exec:COMMAND"; an IPv6 address stands in brackets.
// Errors: invalid.
ckpt::Result<ProbeTarget> parse_probe(const std::string& text);

}  // namespace ckptd
