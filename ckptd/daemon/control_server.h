// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "ckpt/result.h"
#include "daemon/daemon.h"
#include "daemon/libvirt_domains.h"
#include "daemon/supervisor.h"
#include "os/fd.h"

namespace ckptd {

// Serves doc/control_protocol.md: one thread accepts, one more per connection.
class ControlServer {
public:
  ControlServer(Daemon& daemon, Supervisor& supervisor, LibvirtDomains& domains)
      : daemon_(daemon), supervisor_(supervisor), domains_(domains) {}
  ~ControlServer();

  ckpt::Status start();

private:
  void accept_loop();
  void serve(os::Fd fd);
  bool enter(int fd);
  void leave(int fd);

  Daemon& daemon_;
  Supervisor& supervisor_;
  LibvirtDomains& domains_;
  os::Fd listener_;
  std::mutex mutex_;  // of what follows
  std::condition_variable left_;
  std::set<int> connections_;  // descriptors, each served by a thread of its own
  std::thread thread_;
};

}  // namespace ckptd
