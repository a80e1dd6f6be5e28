// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Watches restores from the moment their guest runs: replaces agents and disk servers that die, brings the disks home,
// and ends what is over. All it knows lies in RUN_DIR/restore, so it goes on where an earlier ckptd was.
//
// One thread serves all restores, so it waits for nobody: words with a QEMU, which may hang, are had in a thread of
// their own, one at a time for each restore.
#pragma once

#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "common/qmp.h"
#include "common/restore_state.h"
#include "daemon/daemon.h"

namespace ckptd {

class Supervisor {
public:
  explicit Supervisor(Daemon& daemon);
  ~Supervisor();

  // As doc/control_protocol.md says; all, or one machine's.
  Json list(const std::string& machine);
  // ok when no restore onto this name is under way; otherwise the error names the cure.
  ckpt::Status check_free(const std::string& machine, const std::string& cure);
  // Removes what the last restore onto this name has left.
  void forget(const std::string& machine);
  ckpt::Status finish(const std::string& machine);

private:
  struct Backoff {
    std::int64_t not_before_ms = 0;
    std::int64_t started_ms = 0;
    unsigned young_deaths = 0;
  };
  struct Talk {
    std::uint64_t begun_ns = 0;  // of the restore that it is about
    std::future<ckpt::Result<std::vector<RestoredDisk>>> disks;
  };

  void run();
  void watch(const ProcessId& process);
  void wait_for_a_death(int time_limit_ms);
  void step(const std::string& directory);
  bool tend(RestoreState& state, const std::string& directory);
  bool tend_agent(RestoreState& state, const std::string& directory, bool done);
  bool tend_servers(RestoreState& state, const std::string& directory);
  bool tend_disks(RestoreState& state);
  bool take_disks(RestoreState& state, const ckpt::Result<std::vector<RestoredDisk>>& disks);
  bool all_local(RestoreState& state);
  void close(RestoreState& state, const std::string& phase, const std::string& reason);
  void unpin(const RestoreState& state);
  // False until a program that keeps dying may be started again.
  bool may_start(const std::string& key);

  Daemon& daemon_;
  std::mutex mutex_;  // of the state files
  std::map<std::string, Backoff> backoffs_;
  std::map<std::string, std::string> complaints_;  // by directory
  std::map<std::string, Talk> talks_;              // by machine
  std::map<std::string, std::int64_t> next_talk_ms_;
  std::vector<ProcessId> watched_;  // their death is news
  std::thread thread_;
};

// What the agent last wrote about itself; an empty object when there is nothing to read.
Json read_agent_status(const RestoreState& state);

}  // namespace ckptd
