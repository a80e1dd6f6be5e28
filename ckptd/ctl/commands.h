// SPDX-License-Identifier: LGPL-2.1-or-later
//
// ckptctl's commands. Each prints its result and returns an error for main() to print.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ctl/context.h"

namespace ckptd {

ckpt::Status show_status(const Context& context, const std::string& machine);
ckpt::Status show_watch(const Context& context, const std::string& machine, std::uint64_t count);
ckpt::Status show_list(const Context& context, const std::string& machine);
ckpt::Status show_checkpoint(const Context& context, const Target& target);
ckpt::Status show_restores(const Context& context, const std::string& machine);
std::string restore_line(const Json& restore);  // for people
// Waits until no restore is under way, all or one machine's: `restores` as they are then.
ckpt::Result<Json> await_restores(const Context& context, const std::string& machine);
// An error when it failed, or its QEMU has ended.
ckpt::Status restore_succeeded(const Json& restore);
// Follows restores until none is under way; one of `machine` must have succeeded when it is named.
ckpt::Status follow_restores(const Context& context, const std::string& machine);
ckpt::Status run_verify(const Context& context, const Target& target);

struct PolicyOptions {
  std::string interval;  // empty: as it is
  std::string retention;
  std::string consistent;
};
// `consistent`: the guest's file systems are frozen for it.
ckpt::Status take_checkpoint(const Context& context, const std::string& machine, const std::string& name,
                             const std::string& timeout, bool consistent);
ckpt::Status name_checkpoint(const Context& context, const Target& target, const std::string& name);
ckpt::Status pin_checkpoint(const Context& context, const Target& target, const std::string& holder, bool pinned);
ckpt::Status remove_checkpoint(const Context& context, const Target& target);
ckpt::Status forget_machine(const Context& context, const std::string& machine);
ckpt::Status protect_machine(const Context& context, const std::string& machine, const PolicyOptions& policy,
                             const std::string& qmp);
ckpt::Status unprotect_machine(const Context& context, const std::string& machine);
ckpt::Status set_machine(const Context& context, const std::string& machine, PolicyOptions options,
                         const std::vector<std::string>& assignments);
// A libvirt save image of the checkpoint; `file` empty: NAME@NUMBER.save here.
ckpt::Status write_image(const Context& context, const Target& target, const std::string& file);
struct CloneOptions {
  Target target;
  std::string name;
  bool paused = false, transient = false, connected = false;
};
// Another libvirt domain that goes on from the checkpoint.
ckpt::Status clone_machine(const Context& context, const CloneOptions& options);
ckpt::Status finish_restore(const Context& context, const std::string& machine);
ckpt::Result<Json> policy_of(const PolicyOptions& options);

// Does not return when QEMU starts.
ckpt::Status run_machine(const Context& context, const std::string& machine, const PolicyOptions& policy,
                         const std::vector<std::string>& qemu_argv);

struct RestoreOptions {
  Target target;
  std::string as;  // empty: its own name
  std::string mode = "aggressive";
  std::string bandwidth;  // bytes a second; empty: no limit
  std::string disk_dir;   // empty: where each disk was
  std::string clock = "continue";
  std::string qemu;  // empty: as recorded
  std::vector<std::string> probes;
  std::string probe_timeout = "60s";
  bool wait = false, foreground = false, force = false, replace = false;
  std::vector<std::string> qemu_argv;  // empty: as recorded
};
ckpt::Status restore_machine(const Context& context, const RestoreOptions& options);

}  // namespace ckptd
