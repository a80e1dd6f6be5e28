// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The store and the machines that are protected in it. Everything here may be called from any thread.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "ckpt/store.h"
#include "common/libvirt_domain.h"
#include "daemon/frozen_guests.h"
#include "daemon/machine.h"
#include "daemon/records.h"

namespace ckptd {

class Daemon {
public:
  struct Options {
    std::string store_path;
    bool new_store = false;  // whatever store is at store_path is right; made when there is none
    std::string state_dir = default_state_dir;
    RunDir run_dir;
    Policy policy;                          // of machines that bring none
    std::int64_t stall_limit_ms = 30'000;   // of clients, inside a message or a line
    std::int64_t freeze_limit_ms = 10'000;  // a guest is frozen no longer for a point
    std::string libvirt_uri;                // whose domains are followed while they run; empty: nobody's
  };

  static ckpt::Result<std::unique_ptr<Daemon>> open(Options options);

  ckpt::Store& store() { return *store_; }
  const Options& options() const { return options_; }
  const RunDir& run_dir() const { return options_.run_dir; }
  FrozenGuests& frozen() { return frozen_; }
  // restore-agent's record of what the machine touches first.
  std::string working_set(const std::string& machine) const {
    return files_.directory() + "/" + machine + ".working-set";
  }

  std::shared_ptr<Machine> machine(const std::string& name) const;  // null: not protected
  std::map<std::string, Record> records() const;
  // Machines of the store and machines that are protected; sorted.
  std::vector<std::string> names() const;

  // Makes the machine known and listens for it; config and policy replace what was there when they are not null.
  ckpt::Result<Policy> protect(const std::string& name, const Json& config, const Json& policy);
  ckpt::Status unprotect(const std::string& name);
  // What protect() is about to change about the name, and how it becomes that again: with no machine that was not
  // there.
  Json former(const std::string& name) const;
  void put_back(const std::string& name, const Json& former);
  ckpt::Status forget(const std::string& name);
  ckpt::Result<Policy> set_policy(const std::string& name, const Json& policy);
  // What the machine's next checkpoints would build upon is damaged: see Machine::start_anew(). Holds, whatever ends,
  // for a machine that is not protected too. False: nobody knows it.
  bool start_anew(const std::string& name);
  // The machines that this damage undermines start anew; their names.
  std::vector<std::string> copy_anew(std::span<const ckpt::Damage> damages);
  // A libvirt domain runs: it is the machine that it names, with the policy that it says, until end_domain(). Errors:
  // busy when another machine has the name.
  ckpt::Status protect_domain(const LibvirtDomain& domain);
  void end_domain(const std::string& name);

  // Kept ones of a machine, oldest first; none of one that has none yet. not_found: nobody knows the machine.
  ckpt::Result<std::vector<ckpt::CheckpointInfo>> checkpoints(const std::string& machine) const;
  ckpt::Result<ckpt::CheckpointInfo> resolve(const std::string& machine, const std::string& point) const;
  // ok when no QEMU runs under this name: none connected, and none of its pid file alive.
  ckpt::Status check_not_running(const std::string& name) const;

  // Room is wanted: whoever waits in wait_for_chores() goes to work at once.
  void request_room();
  void wait_for_chores(int time_limit_ms);
  // A point has got or lost its name: whoever waits in wait_for_names() looks at once.
  void names_changed();
  void wait_for_names(int time_limit_ms);

  // A stop that is meant to be one overrides a restart, also one that is under way.
  void request_stop(bool restart, const std::string& reason);
  void wait_for_stop();
  bool stopping() const;
  bool to_restart() const;
  // Can be read from request_stop() on.
  int stop_fd() const { return stop_fd_.get(); }
  void stop_machines();

private:
  explicit Daemon(Options options);
  ckpt::Status start_machine(const std::string& name, const Record& record, Machine::Door door);
  std::shared_ptr<Machine> take_machine(const std::string& name);  // mutex_ is held
  void copied_anew(const std::string& name, std::uint64_t order);

  const Options options_;
  const os::Fd stop_fd_;
  std::unique_ptr<ckpt::Store> store_;
  Records files_;
  FrozenGuests frozen_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Record> records_;
  std::map<std::string, std::shared_ptr<Machine>> machines_;
  bool room_wanted_ = false, names_changed_ = false;
  bool stop_ = false, restart_ = false;
};

}  // namespace ckptd
