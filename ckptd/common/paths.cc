// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

ckpt::Result<std::string> first_there(const char* variable, const std::vector<std::string>& candidates,
                                      const std::string& what) {
  if (const char* chosen = std::getenv(variable)) {
    if (::access(chosen, R_OK) == 0) return std::string(chosen);
    return make_error(Code::not_found, std::string(variable) + " says " + chosen + ", which is not there");
  }
  for (const auto& candidate : candidates)
    if (::access(candidate.c_str(), R_OK) == 0) return absolute_path(candidate);
  return make_error(Code::not_found, what + " is not installed (looked for " + join(candidates, ", ") +
                                         "): install ckpt, or set " + variable);
}

}  // namespace

std::string own_directory() {
  char path[PATH_MAX];
  ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0) return ".";
  std::string text(path, static_cast<std::size_t>(length));
  return text.substr(0, text.rfind('/'));
}

ckpt::Status make_directories(const std::string& path) {
  for (std::size_t at = 1; at != std::string::npos && at < path.size();) {
    at = path.find('/', at + 1);
    std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST)
      return ckpt::system_error(errno, "cannot make directory " + part);
  }
  struct stat status;
  if (::stat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode))
    return make_error(Code::invalid, path + " is not a directory");
  return {};
}

ckpt::Status make_libvirt_directory(const RunDir& run_dir) {
  CKPT_TRY(make_directories(run_dir.libvirt()));
  for (const auto& path : {run_dir.path, run_dir.libvirt()})
    if (::chmod(path.c_str(), 0711) != 0)
      return ckpt::system_error(errno, "cannot open " + path + " for libvirt's QEMUs");
  return {};
}

ckpt::Result<std::string> absolute_path(const std::string& path) {
  char resolved[PATH_MAX];
  if (!::realpath(path.c_str(), resolved)) return ckpt::system_error(errno, path);
  return std::string(resolved);
}

std::string whole_path(const std::string& path) {
  std::error_code error;
  auto whole = std::filesystem::absolute(path, error).lexically_normal().string();
  while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
  return whole;
}

ckpt::Result<std::string> find_restore_agent() {
  return first_there("CKPT_RESTORE_AGENT",
                     {own_directory() + "/../restore-agent/restore-agent", CKPT_LIBEXECDIR "/restore-agent"},
                     "restore-agent");
}

ckpt::Result<std::string> find_nbdkit_plugin() {
  return first_there(
      "CKPT_NBDKIT_PLUGIN",
      {own_directory() + "/../restore-agent/nbdkit-ckpt-plugin.so", CKPT_LIBEXECDIR "/nbdkit-ckpt-plugin.so"},
      "the nbdkit plugin of ckpt");
}

ckpt::Result<std::string> find_restore_probe() {
  return first_there("CKPT_RESTORE_PROBE", {own_directory() + "/restore-probe", CKPT_LIBEXECDIR "/restore-probe"},
                     "restore-probe");
}

ckpt::Result<std::string> find_libvirt_bridge() {
  return first_there("CKPT_LIBVIRT_BRIDGE",
                     {own_directory() + "/../libvirt-hooks/libvirt-bridge", CKPT_LIBEXECDIR "/libvirt-bridge"},
                     "libvirt-bridge");
}

ckpt::Result<std::string> find_qemu_launcher() {
  const std::string name = "/ckpt-qemu-system-x86_64";
  return first_there("CKPT_QEMU_LAUNCHER", {own_directory() + name, CKPT_BINDIR + name},
                     "the launcher ckpt-qemu-system-x86_64");
}

ckpt::Result<std::string> find_guest_freeze() {
  return first_there("CKPT_GUEST_FREEZE", {own_directory() + "/guest-freeze", CKPT_LIBEXECDIR "/guest-freeze"},
                     "guest-freeze");
}

ckpt::Result<std::string> find_qemu_img() {
  auto own = first_there("CKPT_QEMU_IMG", {own_directory() + "/../lib/ckpt/qemu/bin/qemu-img"}, "qemu-img");
  if (own.ok() || std::getenv("CKPT_QEMU_IMG")) return own;
  return find_program("qemu-img");
}

ckpt::Result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (::access(name.c_str(), X_OK) != 0) return ckpt::system_error(errno, name + " cannot be executed");
    return absolute_path(name);
  }
  const char* path = std::getenv("PATH");
  for (const auto& directory : split(path ? path : "/usr/bin:/bin", ':')) {
    std::string candidate = directory + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return absolute_path(candidate);
  }
  return make_error(Code::not_found, name + " is not in PATH: install it or give its full path");
}

}  // namespace ckptd
