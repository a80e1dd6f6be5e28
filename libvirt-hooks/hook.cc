// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's hook, hooks/qemu.d/ckpt: NAME OPERATION SUBOPERATION EXTRA, the domain's XML on stdin (doc/libvirt.md). It
// asks nobody, but for a restore or a revert. libvirt waits for it, and takes a failure for the end of the domain: so
// the work is done by a child with limits, and what happens to that is no failure.
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "domain_files.h"
#include "domain_xml.h"
#include "hook_restore.h"
#include "hook_revert.h"

namespace libvirt_hooks {
namespace {

constexpr std::int64_t time_limit_ms = 5'000;
constexpr std::int64_t start_limit_ms = 15'000, restore_limit_ms = 30'000;  // ckptd may be asked
constexpr rlim_t memory_limit_bytes = 512 << 20;
// The child's word for "must not start"; no crash or sanitizer ends with it.
constexpr int refusal = 64;

enum class Task { none, check, announce, refresh, drop, restore };

Task task_of(std::string_view operation) {
  if (operation == "prepare") return Task::check;
  // The first time that the XML names QEMU's user, and the last at which the domain may be refused.
  if (operation == "start") return Task::announce;
  if (operation == "reconnect") return Task::refresh;
  if (operation == "stopped" || operation == "release") return Task::drop;
  if (operation == "restore") return Task::restore;
  return Task::none;
}

std::int64_t limit_ms(Task task) {
  return task == Task::restore                           ? restore_limit_ms
         : task == Task::check || task == Task::announce ? start_limit_ms
                                                         : time_limit_ms;
}

// Where a failure keeps a domain from starting, and ends none that runs.
bool may_refuse(Task task) { return task == Task::check || task == Task::announce || task == Task::restore; }

ckpt::Result<std::string> read_input() {
  std::string text(ckptd::domain_xml_limit_bytes + 1, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    ssize_t n = ::read(0, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ckpt::system_error(errno, "the domain's XML");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  text.resize(done);
  return text;
}

int refuse(const std::string& name, const std::string& why) {
  std::cerr << "ckpt: domain '" << name << "' is not restored: " << why << std::endl;
  return refusal;
}

// What it prints is the domain's XML from then on.
int restore(const ckptd::RunDir& run_dir, const std::string& name) {
  auto xml = read_input();
  if (!xml.ok() || !may_be_image(*xml)) return 0;
  auto edited = begin_restore(run_dir, *xml);
  if (!edited.ok()) return refuse(name, edited.error().message());
  std::cout << *edited << std::flush;
  return std::cout ? 0 : refuse(name, "libvirt does not take its XML");
}

int complain(const std::string& name, bool refused, const std::string& why) {
  std::cerr << "ckpt: domain '" << name << "' " << (refused ? "must not start (required='yes')" : "is NOT protected")
            << ": " << why << std::endl;
  return refused ? refusal : 0;
}

int work(Task task, const std::string& name) {
  const ckptd::RunDir run_dir;
  if (task == Task::restore) return restore(run_dir, name);
  auto xml = read_input();
  auto domain = xml.ok() ? parse_domain_xml(*xml) : ckpt::Result<DomainXml>(xml.error());
  if (task == Task::drop) {
    if (domain.ok()) drop_domain(run_dir, domain->uuid);
    if (domain.ok()) drop_restore(run_dir, domain->uuid);
    return 0;
  }
  // What is not even a domain's XML requires nothing.
  if (!domain.ok()) return complain(name, false, domain.error().message());
  ckpt::Status written;
  if (task != Task::check) written = put_domain(run_dir, *domain);
  if (task == Task::check)
    if (auto begun = begin_revert(run_dir, *domain, *xml); !begun.ok()) return refuse(name, begun.error().message());
  if (task == Task::announce)
    if (auto restored = start_restore(run_dir, *domain, *xml); !restored.ok())
      return refuse(name, restored.error().message());
  if (!domain->protection) return 0;
  const ckptd::LibvirtDomain& protection = *domain->protection;
  if (protection.error.empty() && written.ok()) return 0;
  return complain(name, protection.required && may_refuse(task),
                  protection.error.empty() ? written.error().message() : protection.error);
}

// True when the child has refused by itself, in time.
bool refuses(pid_t child, Task task) {
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGCHLD);
  int status = 0;
  for (std::int64_t until_ms = ckptd::monotonic_ms() + limit_ms(task);;) {
    pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child || (ended < 0 && errno != EINTR)) break;
    std::int64_t left_ms = until_ms - ckptd::monotonic_ms();
    if (left_ms <= 0) {
      std::cerr << "ckpt: not done after " << limit_ms(task) / 1000 << " s: the domain "
                << (task == Task::restore ? "is not restored" : "goes on as it is") << std::endl;
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return task == Task::restore;
    }
    timespec wait{left_ms / 1000, left_ms % 1000 * 1'000'000};
    ::sigtimedwait(&ends, nullptr, &wait);
  }
  // What the XML names would be restored without its memory.
  if (task == Task::restore) return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
  return WIFEXITED(status) && WEXITSTATUS(status) == refusal;
}

int run(Task task, const std::string& name) {
  ::umask(0077);
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGCHLD);
  ::signal(SIGCHLD, SIG_DFL);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  pid_t child = ::fork();
  if (child < 0) return task == Task::restore ? 1 : 0;
  if (child == 0) {
    rlimit memory{memory_limit_bytes, memory_limit_bytes}, core{0, 0};
    ::setrlimit(RLIMIT_AS, &memory);
    ::setrlimit(RLIMIT_CORE, &core);
    std::_Exit(work(task, name));
  }
  return refuses(child, task) && may_refuse(task) ? 1 : 0;
}

}  // namespace
}  // namespace libvirt_hooks

int main(int argc, char** argv) {
  auto task = argc > 2 ? libvirt_hooks::task_of(argv[2]) : libvirt_hooks::Task::none;
  return task == libvirt_hooks::Task::none ? 0 : libvirt_hooks::run(task, argv[1]);
}
