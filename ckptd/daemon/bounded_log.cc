// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/bounded_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "os/fd.h"
#include "os/file.h"

namespace ckptd {

ckpt::Status bound_log(const std::string& path, std::size_t limit_bytes) {
  os::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd && errno == ENOENT) return {};
  struct stat status;
  if (!fd || ::fstat(fd.get(), &status) != 0) return ckpt::system_error(errno, path);
  if (!S_ISREG(status.st_mode) || status.st_size <= static_cast<off_t>(limit_bytes)) return {};
  std::string last(limit_bytes, '\0');
  ssize_t got = ::pread(fd.get(), last.data(), last.size(), status.st_size - static_cast<off_t>(limit_bytes));
  if (got < 0) return ckpt::system_error(errno, path);
  // Emptied in any case, and first: the room that it took may be what the other one needs.
  if (::ftruncate(fd.get(), 0) != 0) return ckpt::system_error(errno, path);
  return os::write_file(path + ".old", std::string_view(last).substr(0, static_cast<std::size_t>(got)));
}

}  // namespace ckptd
