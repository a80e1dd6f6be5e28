// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Ends threads that wait, be it for a descriptor or for time.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>

#include "os/fd.h"

namespace agent {

class Stop {
public:
  Stop() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  void request() {
    requested_ = true;
    eventfd_write(event_.get(), 1);
  }
  bool requested() const { return requested_; }
  int descriptor() const { return event_.get(); }

  // False when it was cut short by a request.
  bool sleep(std::chrono::nanoseconds time) const {
    pollfd item{event_.get(), POLLIN, 0};
    timespec left{};
    left.tv_sec = static_cast<time_t>(time.count() / 1'000'000'000);
    left.tv_nsec = static_cast<long>(time.count() % 1'000'000'000);
    return ppoll(&item, 1, &left, nullptr) == 0 && !requested_;
  }

private:
  os::Fd event_;
  std::atomic<bool> requested_{false};
};

}  // namespace agent
