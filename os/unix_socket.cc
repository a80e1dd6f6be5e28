// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace os {

using ckpt::Code;

namespace {

ckpt::Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return ckpt::make_error(Code::limit,
                            path + " is longer than a socket's path may be, 107 bytes: choose a shorter directory");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

ckpt::Result<Fd> connect_to(const std::string& path, int flags) {
  CKPT_ASSIGN(auto address, address_of(path));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) return ckpt::system_error(errno, "socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return ckpt::Error{Code::unavailable, errno, "nobody answers at " + path};
  return fd;
}

ckpt::Result<ucred> peer_of(const Fd& fd) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
    return ckpt::system_error(errno, "SO_PEERCRED");
  return peer;
}

}  // namespace

ckpt::Result<Fd> connect_unix(const std::string& path) { return connect_to(path, 0); }

ckpt::Result<Fd> connect_unix_at_once(const std::string& path) { return connect_to(path, SOCK_NONBLOCK); }

ckpt::Result<Fd> listen_unix(const std::string& path, Listener before, std::optional<User> also) {
  CKPT_ASSIGN(auto address, address_of(path));
  struct stat existing;
  if (::lstat(path.c_str(), &existing) == 0) {
    if (!S_ISSOCK(existing.st_mode))
      return ckpt::make_error(Code::exists, path + " is there and is not a socket: move it away");
    if (before == Listener::keeps && connect_unix(path).ok())
      return ckpt::make_error(Code::busy, "another process already listens at " + path);
    ::unlink(path.c_str());
  }
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return ckpt::system_error(errno, "socket");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return ckpt::system_error(errno, "bind " + path);
  // Nobody can connect before listen().
  bool foreign = also && also->uid != 0 && also->uid != ::geteuid();
  if (foreign && ::chown(path.c_str(), static_cast<uid_t>(-1), also->gid) != 0)
    return ckpt::system_error(errno, "cannot let group " + std::to_string(also->gid) + " connect to " + path);
  if (::chmod(path.c_str(), foreign ? 0660 : 0600) != 0 || ::listen(fd.get(), 64) != 0)
    return ckpt::system_error(errno, "listen at " + path);
  return fd;
}

ckpt::Result<Fd> accept_unix(const Fd& listener, std::optional<User> also) {
  Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return ckpt::Error{Code::unavailable, errno, "nobody connects"};
  CKPT_ASSIGN(ucred peer, peer_of(fd));
  if (peer.uid != 0 && peer.uid != ::geteuid() && !(also && also->uid == peer.uid))
    return ckpt::make_error(Code::refused, "user " + std::to_string(peer.uid) + " may not connect: become root");
  return fd;
}

pid_t peer_pid(const Fd& fd) {
  auto peer = peer_of(fd);
  return peer.ok() ? peer->pid : 0;
}

}  // namespace os
