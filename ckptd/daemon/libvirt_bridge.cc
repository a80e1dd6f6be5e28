// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/libvirt_bridge.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "common/clock.h"
#include "daemon/log.h"

namespace ckptd {

namespace {

constexpr std::int64_t backoff_ms = 250, backoff_largest_ms = 30'000;
constexpr std::int64_t grown_up_ms = 60'000;
constexpr int look_interval_ms = 500;

}  // namespace

LibvirtBridge::LibvirtBridge(Daemon& daemon) : daemon_(daemon) {
  if (daemon.options().libvirt_uri.empty()) return;
  auto program = find_libvirt_bridge();
  if (program.ok())
    thread_ = std::thread([this, path = program.take()] { run(path); });
  else
    log_line("libvirt: domains that run are not followed: " + program.error().message());
}

LibvirtBridge::~LibvirtBridge() {
  if (thread_.joinable()) thread_.join();
}

void LibvirtBridge::run(const std::string& program) {
  const std::vector<std::string> argv = {program,
                                         "--connect",
                                         daemon_.options().libvirt_uri,
                                         "--run-dir",
                                         daemon_.run_dir().path,
                                         "follow",
                                         std::to_string(::getpid())};
  std::int64_t wait_ms = backoff_ms;
  while (!daemon_.stopping()) {
    std::int64_t begun_ms = monotonic_ms();
    auto process = spawn_detached(argv, {});
    if (process.ok() && wait_for_end(*process)) {
      terminate(*process, SIGTERM);
      return;
    }
    log_line("libvirt: the bridge " +
             (process.ok() ? "has ended and is started again" : "does not start: " + process.error().message()));
    if (monotonic_ms() - begun_ms > grown_up_ms) wait_ms = backoff_ms;
    if (pause(wait_ms)) return;
    wait_ms = std::min(2 * wait_ms, backoff_largest_ms);
  }
}

bool LibvirtBridge::wait_for_end(const ProcessId& process) {
  os::Fd descriptor(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  while (alive(process)) {
    pollfd entries[] = {{daemon_.stop_fd(), POLLIN, 0}, {descriptor.get(), POLLIN, 0}};
    ::poll(entries, 2, look_interval_ms);
    if (daemon_.stopping()) return true;
  }
  return false;
}

bool LibvirtBridge::pause(std::int64_t ms) {
  pollfd entry{daemon_.stop_fd(), POLLIN, 0};
  ::poll(&entry, 1, static_cast<int>(ms));
  return daemon_.stopping();
}

}  // namespace ckptd
