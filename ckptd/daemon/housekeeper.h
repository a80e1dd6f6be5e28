// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <set>
#include <string>
#include <thread>

#include "common/clock_steps.h"
#include "daemon/daemon.h"

namespace ckptd {

// Lets go what retention no longer keeps and gives its space back, behind the captures, at low priority.
class Housekeeper {
public:
  explicit Housekeeper(Daemon& daemon);
  ~Housekeeper();

private:
  void run();
  bool clock_is_steady();
  void thin(const std::string& machine, const Policy& policy);
  void collect();

  Daemon& daemon_;
  ClockSteps clock_;
  bool steady_ = true;
  std::set<std::string> reported_;  // damage that has been logged
  std::thread thread_;
};

}  // namespace ckptd
