// SPDX-License-Identifier: LGPL-2.1-or-later
//
// One question to a restored machine. Never blocks: it says what to poll for.
#pragma once

#include <netdb.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "common/probe_target.h"
#include "os/fd.h"

namespace ckptd {

struct AddressList {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddressList>;

// Of tcp and http; blocks as long as names take. Errors: not_found.
ckpt::Result<Addresses> resolve(const ProbeTarget& target);

class Attempt {
public:
  enum class Outcome { pending, answered, failed };

  // The address may be null for exec.
  Attempt(const ProbeTarget& target, const addrinfo* address, std::int64_t now_us);
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;
  ~Attempt();

  int descriptor() const { return fd_.get(); }
  short events() const { return sent_ ? 0x001 : 0x004; }  // POLLIN, POLLOUT
  // Goes on as far as it can.
  Outcome step();

  std::int64_t begun_us() const { return begun_us_; }
  const std::string& reason() const { return reason_; }  // of a failure

private:
  void begin_connection(const addrinfo& address);
  void begin_command();
  Outcome fail(std::string reason);
  Outcome step_command();
  Outcome send_question();
  Outcome read_answer();
  Outcome check_status();

  const ProbeTarget* target_;
  std::int64_t begun_us_;
  os::Fd fd_;  // the connection, or a pidfd
  pid_t child_ = 0;
  bool sent_ = false;
  std::string answer_;
  std::string reason_;
};

}  // namespace ckptd
