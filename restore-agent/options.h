// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>

#include "ckpt/result.h"
#include "ckpt/store.h"

namespace agent {

enum class Mode { lazy, aggressive, full };

const char* mode_name(Mode mode);
ckpt::Result<Mode> mode_from(const std::string& name);
// A number with K, M or G behind it, or nothing.
ckpt::Result<std::uint64_t> bytes_from(const std::string& text);

struct Options {
  std::string store;
  ckpt::CheckpointId checkpoint;
  std::string socket;
  std::string status;       // file; empty: none
  std::string control;      // socket; empty: none
  std::string working_set;  // file; empty: none
  Mode mode = Mode::aggressive;
  std::uint64_t bandwidth_bytes_s = 0;  // 0: no cap
};

// False: --help or --version has been printed, nothing is left to do.
ckpt::Result<bool> parse_options(int argc, char** argv, Options& options);

}  // namespace agent
