// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <thread>

#include "common/process.h"
#include "daemon/daemon.h"

namespace ckptd {

// Keeps a libvirt-bridge running, which waits for libvirt in our place. None when no URI is given.
class LibvirtBridge {
public:
  explicit LibvirtBridge(Daemon& daemon);
  ~LibvirtBridge();

private:
  void run(const std::string& program);
  // True when the daemon stops.
  bool wait_for_end(const ProcessId& process);
  bool pause(std::int64_t ms);

  Daemon& daemon_;
  std::thread thread_;
};

}  // namespace ckptd
