// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Starting processes that outlive their starter.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <thread>

#include "common/process.h"
#include "os/unix_socket.h"
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

bool ends(const ProcessId& process) {
  for (int i = 0; i < 1000 && alive(process); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return !alive(process);
}

// While it lives this process can open no file.
class NoDescriptors {
public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
  rlimit before_{};
};

// Just when the process has been made.
bool to_be_blinded = false;
std::optional<NoDescriptors> blinded;
void blind() {
  if (to_be_blinded) blinded.emplace();
}

class Process : public ::testing::Test {
protected:
  std::string path() const { return directory_ / "output"; }

private:
  const ckpt::TempDir directory_;
};

TEST_F(Process, IsKnownBeforeItDoesAnything) {
  ProcessId known;
  auto record = [&](const ProcessId& started) -> ckpt::Status {
    known = started;
    EXPECT_TRUE(alive(started));
    ::usleep(100'000);  // time to do something too early
    EXPECT_NE(::access(path().c_str(), F_OK), 0);
    return {};
  };
  auto started = spawn_detached({"/bin/sh", "-c", "echo $$"}, {.log_path = path(), .record = record});
  ASSERT_TRUE(started.ok()) << started.error().message();
  EXPECT_EQ(*started, known);
  EXPECT_EQ(first_line(path()), std::to_string(known.pid));
}

TEST_F(Process, ThatCannotBeRecordedNeverRuns) {
  ProcessId known;
  auto record = [&](const ProcessId& started) -> ckpt::Status {
    known = started;
    return ckpt::make_error(ckpt::Code::no_space, "no room");
  };
  auto started = spawn_detached({"/bin/sh", "-c", "echo ran; sleep 1000"}, {.log_path = path(), .record = record});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code, ckpt::Code::no_space);
  EXPECT_TRUE(ends(known));
  EXPECT_NE(::access(path().c_str(), F_OK), 0);
}

// alive() would call it dead, and terminate() would not touch it, while it runs.
TEST_F(Process, ThatCannotBeIdentifiedNeverRuns) {
  bool recorded = false;
  auto record = [&](const ProcessId&) -> ckpt::Status {
    recorded = true;
    return {};
  };
  ASSERT_EQ(::pthread_atfork(nullptr, blind, nullptr), 0);
  to_be_blinded = true;
  auto started = spawn_detached({"/bin/sh", "-c", "echo ran; sleep 1000"}, {.log_path = path(), .record = record});
  to_be_blinded = false;
  ASSERT_TRUE(blinded.has_value());
  blinded.reset();
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code, ckpt::Code::unavailable);
  EXPECT_FALSE(recorded);
  ::usleep(100'000);  // time to do something
  EXPECT_NE(::access(path().c_str(), F_OK), 0);
}

TEST_F(Process, WhoseStarterDiesBeforeItIsRecordedNeverRuns) {
  const std::string number = path() + ".pid";
  auto record = [&](const ProcessId& started) -> ckpt::Status {
    (void)write_pid_file(number, started);
    ::kill(::getpid(), SIGKILL);
    return {};
  };
  pid_t starter = ::fork();
  if (starter == 0) {
    (void)spawn_detached({"/bin/sh", "-c", "echo ran; sleep 1000"}, {.log_path = path(), .record = record});
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(starter, &status, 0), starter);
  ASSERT_TRUE(WIFSIGNALED(status));
  auto known = read_pid_file(number);
  ASSERT_TRUE(known.ok() && known->identified());
  EXPECT_TRUE(ends(*known));
  EXPECT_NE(::access(path().c_str(), F_OK), 0);
}

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

// QEMU tries a second time to connect to a disk server only after a second.
TEST_F(Process, CanBeConnectedToBeforeItRuns) {
  const std::string socket = path() + ".sock";
  os::Fd client;
  auto record = [&](const ProcessId&) -> ckpt::Status {
    auto connected = os::connect_unix(socket);
    EXPECT_TRUE(connected.ok()) << connected.error().message();
    if (connected.ok()) client = connected.take();
    return {};
  };
  auto started = spawn_detached({"/bin/sh", "-c", "[ $LISTEN_PID = $$ ] && echo $LISTEN_FDS $(readlink /proc/$$/fd/3)"},
                                {.log_path = path(), .listen_path = socket, .record = record});
  ASSERT_TRUE(started.ok()) << started.error().message();
  const std::string line = first_line(path());
  EXPECT_EQ(line.rfind("1 socket:", 0), 0u) << line;
  // With whom it was handed to it ends: nobody else has it.
  char end;
  EXPECT_EQ(::read(client.get(), &end, 1) <= 0, true);
  EXPECT_FALSE(os::connect_unix(socket).ok());
}

TEST_F(Process, HasNoDescriptorThatItWasNotGiven) {
  ::setenv("LISTEN_FDS", "1", 1);
  os::Fd open(::open("/dev/null", O_RDONLY));
  const std::string tell =
      "for i in 3 4 5 6 7 8 9 10 11 12; do [ -e /proc/$$/fd/$i ] && echo has $i; done; echo end $LISTEN_FDS";
  auto started = spawn_detached({"/bin/sh", "-c", tell}, {.log_path = path()});
  ::unsetenv("LISTEN_FDS");
  ASSERT_TRUE(started.ok()) << started.error().message();
  EXPECT_EQ(first_line(path()), "end");
}

TEST_F(Process, ThatCannotBeStartedIsAnErrorWithItsCause) {
  auto started = spawn_detached({"/nowhere/program"}, {});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().sys_errno, ENOENT);
}

// A restored guest would be given up, and its checkpoint with it.
TEST_F(Process, IsNotDeadBecauseItCannotBeLookedAt) {
  const ProcessId self = process_id(::getpid());
  pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const ProcessId other = process_id(child);
  ASSERT_TRUE(alive(self) && alive(other));
  {
    NoDescriptors none;
    EXPECT_TRUE(alive(self));
    EXPECT_TRUE(alive(other));
    EXPECT_FALSE(process_id(child).identified());
    // It may be a later one with its number.
    terminate(other, SIGKILL);
    EXPECT_FALSE(read_pid_file(path()).ok()) << "a pid file that cannot be read is not one that is not there";
  }
  EXPECT_TRUE(alive(other));
  terminate(other, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_FALSE(alive(other));
  NoDescriptors none;
  EXPECT_FALSE(alive(other));
}

// What serves one machine runs as that machine's user, and still opens the files that are open to us.
TEST(SpawnDetached, AnotherUserKeepsTheRightToOpenFiles) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  ckpt::TempDir directory;
  const std::string log = directory.path() + "/log", secret = directory.path() + "/secret";
  std::ofstream(secret) << "read";
  ASSERT_EQ(::chmod(secret.c_str(), 0600), 0);
  const std::string words = "echo $(id -u) $(id -g) $(id -G) $(cat " + secret + ") $(grep CapEff /proc/self/status)";
  auto started = spawn_detached({"/bin/sh", "-c", words}, {.log_path = log, .user = os::User{65534, 65533}});
  ASSERT_TRUE(started.ok()) << started.error().message();
  EXPECT_EQ(first_line(log), "65534 65533 65533 read CapEff: 0000000000000002");
}

}  // namespace
}  // namespace ckptd
