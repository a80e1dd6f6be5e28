// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Thaws the guests that may be frozen and that nobody holds: after a ckptd, or a helper, that died; after a thaw that
// failed; after a restore of a checkpoint in which the guest is frozen. It goes on until each is thawed or gone.
#pragma once

#include <future>
#include <map>
#include <string>
#include <thread>

#include "daemon/daemon.h"

namespace ckptd {

class Thawer {
public:
  explicit Thawer(Daemon& daemon);
  ~Thawer();

private:
  struct Talk {
    std::uint64_t since_ns = 0;  // of the note that it is about
    std::future<ckpt::Result<std::uint64_t>> thawed;
    std::int64_t next_ms = 0, wait_ms = 0;
    std::string complaint;
  };

  void run();
  void tend(const std::string& machine, const FrozenGuests::Guest& guest);
  bool has_gone(const FrozenNote& note) const;

  Daemon& daemon_;
  std::map<std::string, Talk> talks_;  // by machine
  std::thread thread_;
};

}  // namespace ckptd
