// SPDX-License-Identifier: LGPL-2.1-or-later
#include "small_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "fd.h"

namespace agent {

using ckpt::Bytes;
using ckpt::ByteView;
using ckpt::Code;
using ckpt::make_error;
using ckpt::Result;
using ckpt::Status;
using ckpt::system_error;

Result<Bytes> read_small_file(const std::string& path, std::size_t limit_bytes) {
  // A FIFO in its place must not hold us up.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat what {};
  if (!fd || fstat(fd.get(), &what) != 0) return system_error(errno, path);
  if (!S_ISREG(what.st_mode)) return make_error(Code::invalid, path + " is no regular file");
  if (static_cast<std::uint64_t>(what.st_size) > limit_bytes)
    return make_error(Code::limit, path + " has " + std::to_string(what.st_size) + " bytes");
  Bytes out(static_cast<std::size_t>(what.st_size));
  std::size_t done = 0;
  while (done < out.size()) {
    ssize_t n = ::pread(fd.get(), out.data() + done, out.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(errno, path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

Status replace_small_file(const std::string& path, ByteView content) {
  std::string temporary = path + ".new";
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return system_error(errno, temporary);
  std::size_t done = 0;
  while (done < content.size()) {
    ssize_t n = ::write(fd.get(), content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(errno, temporary);
    done += static_cast<std::size_t>(n);
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return system_error(errno, path);
  return {};
}

}  // namespace agent
