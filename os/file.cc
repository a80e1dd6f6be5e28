// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "os/fd.h"

namespace os {

using ckpt::Code;
using ckpt::make_error;
using ckpt::Result;
using ckpt::Status;
using ckpt::system_error;

namespace {

// A disk that fills up takes a part first; only the next call says why.
Status write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(errno, path);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

// Where it does not work, the name itself is in no more danger than the file system is.
void sync_directory_of(const std::string& path) {
  auto slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) ::fsync(fd.get());
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t limit_bytes) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat what {};
  if (!fd || ::fstat(fd.get(), &what) != 0) return system_error(errno, path);
  if (!S_ISREG(what.st_mode)) return make_error(Code::invalid, path + " is no regular file");
  // Files of /proc have no size. One byte more than a file has shows that it is all.
  std::size_t expected = std::max<std::size_t>(static_cast<std::size_t>(what.st_size), 1023);
  std::string out(std::min(expected, limit_bytes) + 1, '\0');
  std::size_t done = 0;
  for (;;) {
    ssize_t n = ::read(fd.get(), out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(errno, path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
    if (done > limit_bytes)
      return make_error(Code::limit, path + " has more than " + std::to_string(limit_bytes) + " bytes");
    if (done == out.size()) out.resize(std::min(2 * out.size(), limit_bytes + 1));
  }
  out.resize(done);
  return out;
}

Status write_file(const std::string& path, std::string_view bytes, Durable durable) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return system_error(errno, path);
  Status written = write_all(fd.get(), bytes, path);
  if (written.ok() && durable == Durable::yes && ::fsync(fd.get()) != 0) written = system_error(errno, path);
  if (!written.ok()) ::unlink(path.c_str());
  return written;
}

Status replace_file(const std::string& path, std::string_view bytes, Durable durable) {
  std::string temporary = path + ".new";
  CKPT_TRY(write_file(temporary, bytes, durable));
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    Status failed = system_error(errno, path);
    ::unlink(temporary.c_str());
    return failed;
  }
  if (durable == Durable::yes) sync_directory_of(path);
  return {};
}

}  // namespace os
