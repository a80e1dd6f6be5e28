// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The control socket: lines in, JSON lines out. doc/restore_format.md, "Status". A client can be slow or wrong, and the
// restore does not notice.
#pragma once

#include <poll.h>

#include <functional>
#include <list>
#include <string>
#include <vector>

#include "ckpt/result.h"
#include "os/fd.h"

namespace agent {

class Control {
public:
  // `answer` takes a line and returns a JSON object in one line.
  using Answer = std::function<std::string(const std::string& line)>;

  Control(os::Fd listener, Answer answer) : listener_(std::move(listener)), answer_(std::move(answer)) {}

  void add_to(std::vector<pollfd>& items) const;
  // Accepts, reads, answers; never waits.
  void handle();
  // To all clients that asked to watch.
  void publish(const std::string& status);

private:
  struct Client {
    os::Fd fd;
    std::string input;
    std::string output;
    bool watching = false;
    bool lost = false;
  };

  void read_from(Client& client);
  void take_line(Client& client, const std::string& line);
  void write_to(Client& client, const std::string& line);
  static void flush(Client& client);

  os::Fd listener_;
  Answer answer_;
  std::list<Client> clients_;
};

}  // namespace agent
