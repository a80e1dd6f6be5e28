// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Application-consistent points that are due by a machine's policy.
#pragma once

#include <future>
#include <map>
#include <string>
#include <thread>

#include "daemon/daemon.h"

namespace ckptd {

class ConsistentPoints {
public:
  explicit ConsistentPoints(Daemon& daemon);
  ~ConsistentPoints();

private:
  struct Turn {
    std::future<ckpt::Result<ckpt::CheckpointInfo>> taken;
    std::int64_t tried_ms = 0;  // 0: not yet
    std::string complaint;
  };

  void run();
  void look(const std::string& machine, const Policy& policy);
  bool is_due(const std::string& machine, const Policy& policy, const Turn& turn) const;
  void end(const std::string& machine, Turn& turn);

  Daemon& daemon_;
  std::map<std::string, Turn> turns_;  // by machine
  std::thread thread_;
};

}  // namespace ckptd
