// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/write_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "common/fd.h"

namespace ckptd {

namespace {

// A disk that fills up takes a part first; only the next call says why.
ckpt::Status write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ckpt::system_error(errno, path);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

}  // namespace

ckpt::Status write_file(const std::string& path, std::string_view bytes, bool durable) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return ckpt::system_error(errno, path);
  ckpt::Status written = write_all(fd.get(), bytes, path);
  if (written.ok() && durable && ::fsync(fd.get()) != 0) written = ckpt::system_error(errno, path);
  if (!written.ok()) ::unlink(path.c_str());
  return written;
}

}  // namespace ckptd
