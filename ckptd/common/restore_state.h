// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A restore in progress, as RUN_DIR/restore/NAME/state.json keeps it across restarts of ckptd.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/json.h"
#include "common/process.h"
#include "os/unix_socket.h"

namespace ckptd {

struct RestoredDisk {
  std::string name;     // as in the checkpoint
  std::string target;   // libvirt's name of it; empty: none of libvirt's, or of an earlier ckptd's
  std::string overlay;  // local image
  std::string node;     // block node of the overlay in QEMU; found over QMP
  std::vector<std::string> server_argv;
  ProcessId server;  // nbdkit
  bool streaming = false;
  bool local = false;
};

struct RestoreState {
  std::string name;    // the machine that runs now
  std::string source;  // MACHINE@NUMBER
  std::string mode;    // lazy, aggressive, full
  std::string phase;   // see doc/control_protocol.md
  std::string reason;
  std::string holder;  // of the pin
  std::string token;   // ckptd's for the starter, who shows it with every step; random
  ProcessId starter;   // the ckptctl that began it; unknown: libvirt
  ProcessId agent;
  bool memory_local = false;  // QEMU's word, where the agent could not say it
  std::vector<std::string> agent_argv;
  std::string agent_status;  // path
  std::uint64_t agent_restarts = 0;
  ProcessId qemu;
  std::string qmp;
  std::vector<RestoredDisk> disks;
  std::uint64_t bandwidth_bytes_s = 0;  // 0: no limit
  std::vector<std::string> probes;
  std::uint64_t probe_timeout_ms = 0;
  // Of a restore that libvirt runs: the domain, its libvirt and the user of its QEMU. Otherwise empty.
  std::string domain, libvirt_uri;
  std::optional<os::User> user;
  bool defined = false;  // libvirt has been told of the new disks
  bool revert = false;   // to a snapshot, whose images stay
  bool frozen = false;   // its guest comes up frozen
  Json former;           // ckptd's own: what the name is to be again when the guest never runs; null: what it is
  std::uint64_t begun_ns = 0, running_ns = 0, local_ns = 0;  // CLOCK_REALTIME

  bool is_domains() const { return !domain.empty(); }
  std::string log_path(const std::string& directory) const { return directory + "/log"; }
  std::string server_socket(const std::string& directory, std::size_t disk) const {
    return directory + "/disk-" + std::to_string(disk) + ".sock";
  }
};

Json to_json(const RestoreState& state);
ckpt::Result<RestoreState> restore_from_json(const Json& json);
ckpt::Result<RestoreState> load_restore(const std::string& directory);
ckpt::Status save_restore(const std::string& directory, const RestoreState& state);

}  // namespace ckptd
