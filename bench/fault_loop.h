// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The least that whoever answers userfaultfd must do.
#pragma once

#include <linux/userfaultfd.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include "guest_memory.h"

namespace bench {

// Until `stop`: serve(address) for each fault, with the address of its page.
template <typename Serve>
void serve_faults(int userfault, const std::atomic<bool>& stop, Serve serve) {
  std::array<uffd_msg, 64> messages;
  pollfd item{userfault, POLLIN, 0};
  while (!stop) {
    if (poll(&item, 1, 100) <= 0) continue;
    ssize_t n = read(userfault, messages.data(), sizeof(messages));
    for (std::size_t i = 0; n > 0 && i < static_cast<std::size_t>(n) / sizeof(uffd_msg); ++i)
      serve(messages[i].arg.pagefault.address / page_bytes * page_bytes);
  }
}

}  // namespace bench
