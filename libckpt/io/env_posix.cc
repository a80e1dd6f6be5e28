// SPDX-License-Identifier: LGPL-2.1-or-later
#include "io/env_posix.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace ckpt {

namespace {

// A reader holds every segment open, and the usual soft limit of 1,024 is far below what the hard one allows.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
  }
}

int open_file(const std::string& path, int flags) {
  for (bool raised = false;;) {
    int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EINTR && (errno != EMFILE || raised))) return fd;
    if (errno == EMFILE) {
      raise_descriptor_limit();
      raised = true;
    }
  }
}

Error failed(const char* what, const std::string& path) {
  int error = errno;
  return system_error(error, std::string(what) + " " + path);
}

}  // namespace

PosixFile::~PosixFile() { ::close(fd_); }

Error PosixFile::failed(const char* what, int error) const {
  return system_error(error, std::string(what) + " " + path_);
}

Result<std::size_t> PosixFile::read_at(std::uint64_t offset, std::span<std::uint8_t> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    ssize_t n = ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("read", errno);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Status PosixFile::write_at(std::uint64_t offset, std::span<const std::uint8_t> data) {
  std::size_t done = 0;
  while (done < data.size()) {
    ssize_t n = ::pwrite(fd_, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("write", errno);
    if (n == 0) return failed("write", ENOSPC);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status PosixFile::sync() {
  while (::fdatasync(fd_) != 0) {
    if (errno != EINTR) return failed("sync", errno);
  }
  return {};
}

Status PosixFile::truncate(std::uint64_t size) {
  while (::ftruncate(fd_, static_cast<off_t>(size)) != 0) {
    if (errno != EINTR) return failed("truncate", errno);
  }
  return {};
}

Result<std::uint64_t> PosixFile::size() {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) return failed("stat", errno);
  return static_cast<std::uint64_t>(status.st_size);
}

std::unique_ptr<File> PosixEnv::make_file(int fd, const std::string& path) {
  return std::make_unique<PosixFile>(fd, path);
}

Result<std::unique_ptr<File>> PosixEnv::open(const std::string& path, Mode mode) {
  int flags = O_RDONLY;
  if (mode == Mode::write) flags = O_RDWR | O_CREAT;
  if (mode == Mode::create_new) flags = O_RDWR | O_CREAT | O_EXCL;
  int fd = open_file(path, flags);
  if (fd < 0 && errno == EEXIST) return Error{Code::exists, EEXIST, "create " + path};
  if (fd < 0) return failed("open", path);
  return make_file(fd, path);
}

Status PosixEnv::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return failed("rename", from);
  return {};
}

Status PosixEnv::remove(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return failed("remove", path);
  return {};
}

Status PosixEnv::make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return failed("make directory", path);
  return {};
}

Status PosixEnv::sync_directory(const std::string& path) {
  int fd = open_file(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return failed("open directory", path);
  int result = ::fsync(fd);
  int error = errno;
  ::close(fd);
  if (result != 0) return system_error(error, "sync directory " + path);
  return {};
}

Result<std::vector<std::string>> PosixEnv::list(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return failed("list", path);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory)) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  int error = errno;
  ::closedir(directory);
  if (error != 0) return system_error(error, "list " + path);
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::unique_ptr<File>> PosixEnv::lock(const std::string& path) {
  int fd = open_file(path, O_RDWR | O_CREAT);
  if (fd < 0) return failed("open", path);
  auto file = std::make_unique<PosixFile>(fd, path);
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return failed("lock", path);
    std::uint8_t holder[32] = {};
    Result<std::size_t> length = file->read_at(0, holder);
    std::string pid(reinterpret_cast<const char*>(holder), length ? *length : 0);
    pid = pid.substr(0, pid.find_first_not_of("0123456789"));
    return make_error(Code::busy, path + " is held by process " + (pid.empty() ? "unknown" : pid));
  }
  // Only said for people; a lock without it is as good.
  std::string pid = std::to_string(::getpid()) + "\n";
  (void)file->truncate(0);
  (void)file->write_at(0, {reinterpret_cast<const std::uint8_t*>(pid.data()), pid.size()});
  return std::unique_ptr<File>(std::move(file));
}

Result<std::uint64_t> PosixEnv::free_bytes(const std::string& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) return failed("statvfs", path);
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

std::uint64_t PosixEnv::now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

Status PosixEnv::random(std::span<std::uint8_t> out) {
  while (!out.empty()) {
    ssize_t n = ::getrandom(out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("getrandom", "");
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace ckpt
