// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Golden files: what is written today must be read for ever. CKPT_WRITE_GOLDEN=1 in the environment writes those that
// are not there yet; it never changes one.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/bytes.h"

namespace ckpt {

// `name` is FORMAT/FILE.
inline std::string golden_path(const std::string& name) {
  return std::string(CKPT_SOURCE_ROOT) + "/tests/golden/" + name;
}

inline Bytes read_golden(const std::string& name) {
  std::ifstream file(golden_path(name), std::ios::binary);
  EXPECT_TRUE(file) << golden_path(name);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

inline void expect_golden(const std::string& name, const Bytes& bytes) {
  if (std::getenv("CKPT_WRITE_GOLDEN") && !std::filesystem::exists(golden_path(name)))
    std::ofstream(golden_path(name), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  EXPECT_EQ(read_golden(name), bytes) << name << " is not written as it was";
}

}  // namespace ckpt
