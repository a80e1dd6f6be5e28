// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <string>

#include "ckpt/result.h"
#include "common/fd.h"

namespace ckptd {

// Binds and listens. A stale socket file is replaced; one that somebody answers on is Code::busy.
ckpt::Result<Fd> listen_unix(const std::string& path);
// Errors: unavailable when nobody listens there.
ckpt::Result<Fd> connect_unix(const std::string& path);
// As that, but does not wait for a listener that hangs; the descriptor does not block.
ckpt::Result<Fd> connect_unix_at_once(const std::string& path);
// ok when the other end is root or the same user as this process.
ckpt::Status check_peer(int fd);
pid_t peer_pid(int fd);  // of whoever connected; 0 when unknown

}  // namespace ckptd
