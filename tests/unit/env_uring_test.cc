// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Files on io_uring when the kernel does not take what is submitted.
#include "io/env_uring.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "temp_dir.h"

struct io_uring;

namespace {

int refused_with = 0;  // an errno; 0: nothing is refused
int taken_before = 0;  // submissions that go through before that
int refusals = 0;

}  // namespace

// In the library's place.
extern "C" int io_uring_submit(io_uring* ring) {
  static auto real = reinterpret_cast<int (*)(io_uring*)>(dlsym(RTLD_NEXT, "io_uring_submit"));
  if (refused_with == 0 || taken_before-- > 0) return real(ring);
  ++refusals;
  return -refused_with;
}

namespace ckpt {
namespace {

TEST(UringEnv, WhatTheKernelDoesNotTakeIsWrittenAllTheSame) {
  auto env = make_uring_env();
  if (!env) GTEST_SKIP() << "io_uring cannot be used here";
  TempDir directory;
  // More than one ringful.
  std::vector<std::uint8_t> data(40u << 20);
  unsigned round = 0;
  for (int error : {ENOMEM, EAGAIN, EBUSY}) {
    for (int before : {0, 1}) {
      ++round;
      for (std::size_t i = 0; i < data.size(); i += 512) data[i] = static_cast<std::uint8_t>(i / 512 + round);
      auto file = env->open(directory / "file", Env::Mode::write).take();
      refused_with = error;
      taken_before = before;
      refusals = 0;
      EXPECT_TRUE(file->write_and_sync(round, data).ok()) << error << " after " << before;
      EXPECT_EQ(refusals, 1);
      std::vector<std::uint8_t> read(data.size());
      EXPECT_EQ(*file->read_at(round, read), data.size());
      EXPECT_EQ(read, data) << error << " after " << before;
      // The next one finds a ring that works.
      refused_with = 0;
      EXPECT_TRUE(file->write_and_sync(0, std::span(data).first(5000)).ok());
      EXPECT_EQ(*file->read_at(0, std::span(read).first(5000)), 5000u);
      EXPECT_TRUE(std::equal(read.begin(), read.begin() + 5000, data.begin()));
    }
  }
}

}  // namespace
}  // namespace ckpt
