// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where things lie below RUN_DIR, and where the programs are that a restore needs.
#pragma once

#include <string>

#include "ckpt/result.h"

namespace ckptd {

inline constexpr const char* default_run_dir = "/run/ckpt";
inline constexpr const char* default_state_dir = "/var/lib/ckptd";

struct RunDir {
  std::string path = default_run_dir;

  std::string control_socket() const { return path + "/ckptd.sock"; }
  std::string stream_socket(const std::string& machine) const { return path + "/" + machine + ".sock"; }
  std::string qmp_socket(const std::string& machine) const { return path + "/" + machine + ".qmp"; }
  std::string pid_file(const std::string& machine) const { return path + "/" + machine + ".pid"; }
  // Guests that may be frozen.
  std::string frozen() const { return path + "/frozen"; }
  std::string restores() const { return path + "/restore"; }
  std::string restore(const std::string& machine) const { return restores() + "/" + machine; }
  std::string agent_socket(const std::string& machine) const { return restore(machine) + "/agent.sock"; }
  // libvirt's domains: what the hook has left of one, and where its QEMU connects.
  std::string libvirt() const { return path + "/libvirt"; }
  std::string libvirt_domain(const std::string& uuid) const { return libvirt() + "/" + uuid + ".json"; }
  // Of a restore of it: for the next hook, and for the launcher.
  std::string libvirt_prepared(const std::string& uuid) const { return libvirt() + "/" + uuid + ".prepared"; }
  std::string libvirt_restore(const std::string& uuid) const { return libvirt() + "/" + uuid + ".restore"; }
  // Points of it that are libvirt's snapshots too.
  std::string libvirt_snapshots(const std::string& uuid) const { return libvirt() + "/" + uuid + ".snapshots"; }
  // Of a clone that libvirt is about to run.
  std::string libvirt_image(const std::string& uuid) const { return libvirt() + "/" + uuid + ".save"; }
  std::string libvirt_socket(const std::string& uuid) const { return libvirt() + "/" + uuid + ".sock"; }
  // What QEMU loads; a copy that may be large, in memory: gone as soon as it is loaded.
  std::string device_state(const std::string& machine) const { return restore(machine) + "/device-state"; }
};

// Where this program lies.
std::string own_directory();
// ok when the directory is there; made with mode 0700, its parents too, otherwise.
ckpt::Status make_directories(const std::string& path);
// RUN_DIR/libvirt, where QEMUs of other users find the sockets whose names they know, and nothing else.
ckpt::Status make_libvirt_directory(const RunDir& run_dir);
// Resolved; it must be there.
ckpt::Result<std::string> absolute_path(const std::string& path);
// From the root, without '.', '..' and doubled slashes, whether it is there or not.
std::string whole_path(const std::string& path);

// CKPT_RESTORE_AGENT, CKPT_NBDKIT_PLUGIN and CKPT_RESTORE_PROBE come first, then the build tree of this program, then
// the installed place.
ckpt::Result<std::string> find_restore_agent();
ckpt::Result<std::string> find_nbdkit_plugin();
ckpt::Result<std::string> find_restore_probe();
// CKPT_LIBVIRT_BRIDGE, CKPT_QEMU_LAUNCHER, CKPT_GUEST_FREEZE; the same way.
ckpt::Result<std::string> find_libvirt_bridge();
ckpt::Result<std::string> find_qemu_launcher();
ckpt::Result<std::string> find_guest_freeze();
// CKPT_QEMU_IMG, that of the installed QEMU, or PATH's.
ckpt::Result<std::string> find_qemu_img();
// PATH's, as an absolute path.
ckpt::Result<std::string> find_program(const std::string& name);

}  // namespace ckptd
