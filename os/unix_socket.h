// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "ckpt/result.h"
#include "os/fd.h"

namespace os {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;

  bool operator==(const User&) const = default;
};

// Whoever listens at a path already keeps it, or loses it.
enum class Listener { keeps, is_replaced };

// Binds and listens, for root, our own user and `also`; neither the descriptor nor those of its connections block. The
// socket file of one who has gone is replaced.
// Errors: busy when somebody answers there and keeps it, exists when the path is no socket, limit when it is too long.
ckpt::Result<Fd> listen_unix(const std::string& path, Listener before = Listener::keeps,
                             std::optional<User> also = std::nullopt);
// The next connection. Errors: unavailable when there is none, refused when it is of anybody else.
ckpt::Result<Fd> accept_unix(const Fd& listener, std::optional<User> also = std::nullopt);
// Errors: unavailable when nobody listens there.
ckpt::Result<Fd> connect_unix(const std::string& path);
// As that, but does not wait for a listener that hangs; the descriptor does not block.
ckpt::Result<Fd> connect_unix_at_once(const std::string& path);
// Of whoever connected; 0 when unknown.
pid_t peer_pid(const Fd& fd);

}  // namespace os
