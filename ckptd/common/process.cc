// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/clock.h"
#include "os/fd.h"
#include "os/file.h"
#include "os/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::int64_t watch_interval_ms = 250;

struct Stat {
  char state = '?';
  std::uint64_t start_time = 0;
};

ckpt::Result<Stat> read_stat(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  CKPT_ASSIGN(std::string text, os::read_file(path, 4096));
  // The command's name may hold anything; fields are counted from its closing parenthesis.
  const char* at = std::strrchr(text.c_str(), ')');
  Stat stat;
  unsigned long long start = 0;
  if (!at || std::sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                         &stat.state, &start) != 2)
    return make_error(Code::corrupt, path);
  stat.start_time = start;
  return stat;
}

// ESRCH: it ended while it was read.
bool is_gone(const ckpt::Error& error) { return error.code == Code::not_found || error.sys_errno == ESRCH; }

std::vector<char*> pointers(const std::vector<std::string>& argv) {
  std::vector<char*> list;
  for (const auto& argument : argv) list.push_back(const_cast<char*>(argument.c_str()));
  list.push_back(nullptr);
  return list;
}

// What a child will be, beside its options: all that needs memory, got before there is a child.
struct Image {
  std::vector<char*> argv;
  os::Fd listener;
  std::vector<std::string> environment_texts;
  std::vector<char*> environment;
  char* listen_pid = nullptr;  // where the child's number goes, in the environment
};

constexpr int first_handed_over = 3;  // SD_LISTEN_FDS_START
constexpr std::size_t pid_digits = 20;

ckpt::Result<Image> image_of(const std::vector<std::string>& argv, const SpawnOptions& options) {
  Image image{.argv = pointers(argv)};
  // A socket that was handed to us is not the child's.
  for (char** variable = environ; *variable != nullptr; ++variable)
    if (std::strncmp(*variable, "LISTEN_", 7) != 0) image.environment_texts.emplace_back(*variable);
  if (!options.listen_path.empty()) {
    CKPT_ASSIGN(image.listener, os::listen_unix(options.listen_path, os::Listener::is_replaced, options.listen_for));
    image.environment_texts.emplace_back("LISTEN_FDS=1");
    image.environment_texts.emplace_back("LISTEN_PID=" + std::string(pid_digits, '\0'));
  }
  image.environment = pointers(image.environment_texts);
  if (image.listener) image.listen_pid = image.environment_texts.back().data() + std::strlen("LISTEN_PID=");
  return image;
}

void write_decimal(char* out, pid_t number) {
  char digits[pid_digits];
  std::size_t count = 0;
  for (; number > 0; number /= 10) digits[count++] = static_cast<char>('0' + number % 10);
  while (count > 0) *out++ = digits[--count];
}

// In the child, as become(): by system calls, since glibc would first look for other threads.
bool become_user(const os::User& user) {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  const __u32 files = 1u << CAP_DAC_OVERRIDE;
  data[0] = {files, files, files};
  return ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && ::syscall(SYS_setgroups, 0, nullptr) == 0 &&
         ::syscall(SYS_setresgid, user.gid, user.gid, user.gid) == 0 &&
         ::syscall(SYS_setresuid, user.uid, user.uid, user.uid) == 0 && ::syscall(SYS_capset, &head, data) == 0 &&
         ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0) == 0;
}

// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void become(const Image& image, const SpawnOptions& options, int report) {
  auto fail = [&report] {
    int error = errno;
    (void)!::write(report, &error, sizeof(error));
    ::_exit(127);
  };
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) fail();
  if (options.talk >= 0) {
    if (::dup2(options.talk, 0) < 0 || ::dup2(options.talk, 1) < 0) fail();
  } else if (!options.keep_input) {
    int null = ::open("/dev/null", O_RDONLY);
    if (null < 0 || ::dup2(null, 0) < 0) fail();
  }
  if (!options.log_path.empty()) {
    int log = ::open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log < 0 || ::dup2(log, 1) < 0 || ::dup2(log, 2) < 0) fail();
  }
  // Out of the way of those that have a place; the last of them is the report's.
  constexpr int report_place = first_handed_over + 1;
  int listener = image.listener ? ::fcntl(image.listener.get(), F_DUPFD_CLOEXEC, report_place + 1) : -1;
  if (image.listener && listener < 0) fail();
  if (report != report_place && ::dup3(report, report_place, O_CLOEXEC) < 0) fail();
  report = report_place;
  if (image.listener ? ::dup2(listener, first_handed_over) < 0 : ::close(first_handed_over) != 0 && errno != EBADF)
    fail();
  ::close_range(report_place + 1, ~0u, 0);
  if (image.listen_pid != nullptr) write_decimal(image.listen_pid, ::getpid());
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  if (options.user && options.user->uid != ::geteuid() && !become_user(*options.user)) fail();
  ::execvpe(image.argv[0], image.argv.data(), image.environment.data());
  fail();
  ::_exit(127);
}

}  // namespace

ProcessId process_id(pid_t pid) {
  auto stat = read_stat(pid);
  return {pid, stat.ok() ? stat->start_time : 0};
}

bool alive(const ProcessId& process) {
  if (!process.known()) return false;
  auto stat = read_stat(process.pid);
  if (!stat.ok()) return !is_gone(stat.error()) && (::kill(process.pid, 0) == 0 || errno != ESRCH);
  return stat->start_time == process.start_time && stat->state != 'Z' && stat->state != 'X';
}

void terminate(const ProcessId& process, int signal) {
  if (process.identified() && process_id(process.pid) == process) ::kill(process.pid, signal);
}

ckpt::Result<ProcessId> spawn_detached(const std::vector<std::string>& argv, const SpawnOptions& options) {
  if (argv.empty()) return make_error(Code::invalid, "no program to start");
  CKPT_ASSIGN(const Image image, image_of(argv, options));
  int ends[2], release_ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ckpt::system_error(errno, "pipe");
  os::Fd read_end(ends[0]), write_end(ends[1]);
  if (::pipe2(release_ends, O_CLOEXEC) != 0) return ckpt::system_error(errno, "pipe");
  os::Fd wait_end(release_ends[0]), release_end(release_ends[1]);
  pid_t middle = ::fork();
  if (middle < 0) return ckpt::system_error(errno, "fork");
  if (middle == 0) {
    ::setsid();
    pid_t child = ::fork();
    if (child == 0) {
      // nbdkit asks to be ended with its parent: that must be the last one, not the process between. And nothing may
      // run that no record names: without the starter nobody releases it.
      ::close(release_end.get());
      char go;
      if (::read(wait_end.get(), &go, 1) != 1) ::_exit(127);
      become(image, options, write_end.get());
    }
    int report = child < 0 ? errno : -child;
    (void)!::write(write_end.get(), &report, sizeof(report));
    ::_exit(0);
  }
  write_end.reset();
  while (::waitpid(middle, nullptr, 0) < 0 && errno == EINTR) {
  }
  // The child's number as a negative one, or why there is none; later the errno of what the child could not do.
  int value = 0;
  if (::read(read_end.get(), &value, sizeof(value)) != sizeof(value))
    return make_error(Code::io, "cannot start " + argv[0]);
  if (value > 0) return ckpt::system_error(value, "cannot start " + argv[0]);
  const ProcessId child = process_id(-value);
  // Nobody could end it, or tell it from a later one with its number.
  if (!child.identified())
    return make_error(Code::unavailable, "cannot start " + argv[0] + ": its process cannot be looked at in /proc");
  if (options.record) CKPT_TRY(options.record(child));
  (void)!::write(release_end.get(), "", 1);
  if (::read(read_end.get(), &value, sizeof(value)) == sizeof(value))
    return ckpt::system_error(value, "cannot start " + argv[0]);
  return child;
}

ckpt::Result<std::string> run_helper(const std::vector<std::string>& argv, std::int64_t time_limit_ms,
                                     const std::function<void(const std::string&)>& watch) {
  auto list = pointers(argv);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ckpt::system_error(errno, "pipe");
  os::Fd read_end(ends[0]), write_end(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return ckpt::system_error(errno, "fork");
  if (child == 0) {
    if (::dup2(write_end.get(), 1) < 0 || ::dup2(write_end.get(), 2) < 0) ::_exit(127);
    ::execvp(list[0], list.data());
    ::_exit(127);
  }
  write_end.reset();
  std::string output;
  std::int64_t deadline_ms = monotonic_ms() + time_limit_ms;
  for (;;) {
    pollfd entry{read_end.get(), POLLIN, 0};
    auto left_ms = deadline_ms - monotonic_ms();
    if (left_ms <= 0) {
      ::kill(child, SIGKILL);
      break;
    }
    int ready = ::poll(&entry, 1, static_cast<int>(std::min(left_ms, watch_interval_ms)));
    if (watch) watch(output);
    if (ready == 0) continue;
    char bytes[4096];
    ssize_t got = ::read(read_end.get(), bytes, sizeof(bytes));
    if (got == 0 || (got < 0 && errno != EINTR)) break;
    if (got > 0 && output.size() < 65536) output.append(bytes, static_cast<std::size_t>(got));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return output;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    return make_error(Code::not_found, argv[0] + " cannot be started: install it");
  while (!output.empty() && output.back() == '\n') output.pop_back();
  return make_error(Code::io, argv[0] + " failed: " + (output.empty() ? "no output" : output));
}

ckpt::Status write_pid_file(const std::string& path, const ProcessId& process) {
  return os::write_file(path, std::to_string(process.pid) + " " + std::to_string(process.start_time) + "\n");
}

ckpt::Result<ProcessId> read_pid_file(const std::string& path) {
  auto text = os::read_file(path, 64);
  if (!text.ok() && text.error().code == Code::not_found) return ProcessId{};
  if (!text.ok()) return text.error();
  int pid = 0;
  unsigned long long start = 0;
  if (std::sscanf(text->c_str(), "%d %llu", &pid, &start) != 2 || pid <= 1) return ProcessId{};
  return ProcessId{pid, start};
}

Json to_json(const ProcessId& process) { return {{"pid", process.pid}, {"start_time", process.start_time}}; }

ProcessId process_from_json(const Json& json) {
  auto pid = number_of(json, "pid");
  if (pid <= 1 || pid > 0x7fffffff) return {};
  return {static_cast<pid_t>(pid), number_of(json, "start_time")};
}

}  // namespace ckptd
