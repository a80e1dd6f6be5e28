// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Named points of libvirt's domains are libvirt's snapshots (doc/libvirt.md, Native snapshots). What libvirt may be
// asked to revert to is pinned, and can be opened: it ends the running domain before anybody is asked. libvirt-bridge
// talks to libvirt; here is what it is to make so, and when.
#pragma once

#include <map>
#include <set>
#include <string>
#include <thread>

#include "daemon/daemon.h"

namespace ckptd {

// A pin's holder; nobody else's.
inline constexpr std::string_view snapshot_holder = "libvirt:snapshot";

class LibvirtSnapshots {
public:
  explicit LibvirtSnapshots(Daemon& daemon);  // does nothing without --libvirt
  ~LibvirtSnapshots();

private:
  void run(const std::string& bridge);
  void look(const std::string& bridge, const std::string& machine, const std::string& uuid);
  Json wishes(const std::vector<ckpt::CheckpointInfo>& kept, std::string& troubles);
  ckpt::Result<Json> ask(const std::string& bridge, const Json& wishes) const;
  void unpin_others(const std::vector<ckpt::CheckpointInfo>& kept, const std::set<std::uint64_t>& published,
                    std::string& troubles);
  void complain(const std::string& machine, const std::string& text);

  Daemon& daemon_;
  std::map<std::string, std::string> complaints_;  // by machine: the last
  std::thread thread_;
};

// The points of a machine that are snapshots: the newest that have names which libvirt takes, oldest first.
std::vector<ckpt::CheckpointInfo> snapshot_points(const std::vector<ckpt::CheckpointInfo>& kept);
// The name of the nearest of `points` that `info` goes back to; empty: none. What is no longer kept between them went
// on from the one before it.
std::string snapshot_parent(const ckpt::CheckpointInfo& info, const std::vector<ckpt::CheckpointInfo>& kept,
                            const std::vector<ckpt::CheckpointInfo>& points);

}  // namespace ckptd
