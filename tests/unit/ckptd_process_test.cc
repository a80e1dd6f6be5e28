// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Starting processes that outlive their starter.
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "common/process.h"
#include "temp_dir.h"

namespace ckptd {
namespace {

const pid_t test_pid = ::getpid();

// The process between the starter and the started one is kept from ending, as on a busy host.
void dawdle() {
  if (::getpid() != test_pid) ::usleep(300'000);
}

std::string first_line(const std::string& path) {
  std::string line;
  for (int i = 0; i < 1000 && line.empty(); ++i) {
    std::ifstream file(path);
    std::getline(file, line);
    if (!file.good()) line.clear();  // not whole yet
    if (line.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return line;
}

class Process : public ::testing::Test {
protected:
  std::string path() const { return directory_ / "output"; }

private:
  const ckpt::TempDir directory_;
};

// Or a program that asks the kernel to be ended with its parent, as nbdkit does, ends as soon as it is started.
TEST_F(Process, HasFromTheBeginningTheParentThatItKeeps) {
  ASSERT_EQ(::pthread_atfork(nullptr, dawdle, nullptr), 0);
  auto started = spawn_detached({"/bin/sh", "-c", "echo $PPID"}, {.directory = "/", .log_path = path()});
  ASSERT_TRUE(started.ok()) << started.error().message();
  std::string parent = first_line(path());
  ASSERT_FALSE(parent.empty());
  // 0: one outside of this PID namespace.
  pid_t pid = std::atoi(parent.c_str());
  EXPECT_TRUE(pid == 0 || process_id(pid).start_time != 0) << "parent " << pid << " has ended";
}

TEST_F(Process, ThatCannotBeStartedIsAnErrorWithItsCause) {
  auto started = spawn_detached({"/nowhere/program"}, {});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().sys_errno, ENOENT);
}

}  // namespace
}  // namespace ckptd
