// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>

#include "common/json.h"
#include "daemon/daemon.h"
#include "daemon/libvirt_domains.h"
#include "daemon/supervisor.h"

namespace ckptd {

// What each verb of doc/control_protocol.md does.
class Verbs {
public:
  struct Reply {
    std::function<bool(Json)> more;  // sends an answer before the last; false: the client has gone
    std::function<bool()> gone;
    ProcessId peer;  // who asks
  };

  Verbs(Daemon& daemon, Supervisor& supervisor, LibvirtDomains& domains)
      : daemon_(daemon), supervisor_(supervisor), domains_(domains) {}

  ckpt::Result<Json> handle(const Json& request, const Reply& reply);

private:
  using Handler = ckpt::Result<Json> (Verbs::*)(const Json&, const Reply&);
  static const std::map<std::string, Handler>& table();

  // Looking (verbs_look.cc).
  ckpt::Result<Json> hello(const Json&, const Reply&);
  ckpt::Result<Json> status(const Json&, const Reply&);
  ckpt::Result<Json> watch(const Json&, const Reply&);
  ckpt::Result<Json> list(const Json&, const Reply&);
  ckpt::Result<Json> show(const Json&, const Reply&);
  ckpt::Result<Json> restores(const Json&, const Reply&);
  ckpt::Result<Json> verify(const Json&, const Reply&);
  // Changing (verbs_change.cc).
  ckpt::Result<Json> checkpoint(const Json&, const Reply&);
  ckpt::Result<Json> name(const Json&, const Reply&);
  ckpt::Result<Json> pin(const Json&, const Reply&);
  ckpt::Result<Json> unpin(const Json&, const Reply&);
  ckpt::Result<Json> remove(const Json&, const Reply&);
  ckpt::Result<Json> forget(const Json&, const Reply&);
  ckpt::Result<Json> protect(const Json&, const Reply&);
  ckpt::Result<Json> unprotect(const Json&, const Reply&);
  ckpt::Result<Json> set(const Json&, const Reply&);
  ckpt::Result<Json> restore_begin(const Json&, const Reply&);
  ckpt::Result<Json> restore_update(const Json&, const Reply&);
  ckpt::Result<Json> restore_abandon(const Json&, const Reply&);
  ckpt::Result<Json> finish(const Json&, const Reply&);
  // libvirt's restores (verbs_domain.cc).
  ckpt::Result<Json> domain_restore_begin(const Json&, const Reply&);
  ckpt::Result<Json> domain_restore_start(const Json&, const Reply&);

  Json machine_json(const std::string& name);
  Json store_json();
  ckpt::Result<Json> overview(const std::string& machine);
  ckpt::Result<Json> describe(const ckpt::CheckpointId& id);
  ckpt::Result<ckpt::CheckpointInfo> resolve(const Json& request);
  ckpt::Result<Json> prepare_restore(const ckpt::CheckpointInfo& source, const RestoreState& state);
  ckpt::Status check_domain(const std::string& machine, const std::string& uuid);
  ckpt::Status check_identity(const ckpt::CheckpointId& source, const RestoreState& wanted,
                              const std::string& clone_of);
  ckpt::Status copy_nvram(const ckpt::CheckpointId& source, const std::string& disk, const std::string& file);
  ckpt::Status prepare_domain(const Json& request, const ckpt::CheckpointInfo& source, RestoreState& state);
  ckpt::Status start_domain(RestoreState& state);
  // Else nobody takes away what an earlier ckptd has made a snapshot of libvirt's.
  bool keeps_snapshots() const { return !daemon_.options().libvirt_uri.empty(); }
  // What the admin is told of a checkpoint that cannot be restored.
  static ckpt::Error why_not(const ckpt::CheckpointId& id, const ckpt::Error& error);
  ckpt::Status write_device_state(const ckpt::CheckpointId& id, const std::string& path);

  Daemon& daemon_;
  Supervisor& supervisor_;
  LibvirtDomains& domains_;
};

Json checkpoint_json(const ckpt::CheckpointInfo& info);

}  // namespace ckptd
