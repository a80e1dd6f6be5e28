// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Keeps the records of all restores, from the moment that one's name is reserved: the phases of
// doc/control_protocol.md. Until the guest runs the starter reports its steps; from then on agents and disk servers
// that die are replaced and the disks brought home here. What is over is ended. All of it lies in RUN_DIR/restore too,
// so an earlier ckptd's restores go on.
//
// One thread serves all restores, so it waits for nobody: words with a QEMU, which may hang, are had in a thread of
// their own, one at a time for each restore.
#pragma once

#include <future>
#include <map>
#include <mutex>
#include <optional>
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
  // Removes what the last restore onto this name has left; false: there was none.
  bool forget(const std::string& machine);
  ckpt::Status finish(const std::string& machine);

  // Reserves `wanted`.name for a restore of its source, which is one's alone until it is over: the record has the token
  // that each later step must show. Nothing is pinned yet. Until prepared() the restore does not end, also when its
  // starter does: nothing is then pinned or written for it that nobody undoes. busy: another restore has the name, or a
  // QEMU runs under it.
  ckpt::Result<RestoreState> reserve(const RestoreState& wanted);
  void prepared(const std::string& name);
  // libvirt goes on with its restore: until prepared() again ckptd is at work for it. Refused: as for update().
  ckpt::Result<RestoreState> resume(const std::string& name, const std::string& token);
  // A step of the starter's. refused: it is not the restore's owner, or the restore is over.
  // `config` when it becomes `resuming`: the machine is protected with it from then on.
  ckpt::Status update(const std::string& token, RestoreState state, const Json& config);
  // Of a restore whose guest comes up frozen, before it runs: it is thawed then, whatever ends until then.
  ckpt::Status expect_frozen(const RestoreState& state);
  // Ends all that the record knows of, unpins, revokes the base.
  ckpt::Status abandon(const std::string& name, const std::string& token, const std::string& reason);

private:
  struct Known {
    RestoreState state;
    bool preparing = false;  // ckptd itself is at work for it: not over before that is
    bool saved = true;       // RUN_DIR may be full; what is known counts, and is saved as soon as it can be
    std::string save_complaint, log_complaint;  // the last ones
  };
  struct Backoff {
    std::int64_t not_before_ms = 0;
    std::int64_t started_ms = 0;
    unsigned young_deaths = 0;
  };
  // What a restore's QEMU is asked, on a thread of its own, for it may not answer.
  template <typename Answer>
  using Question = ckpt::Result<Answer> (*)(const RestoreState&, int stop_fd);
  template <typename Answer>
  struct Talk {
    std::uint64_t begun_ns = 0;  // of the restore that it is about
    std::future<ckpt::Result<Answer>> answer;
  };
  template <typename Answer>
  using Talks = std::map<std::string, Talk<Answer>>;  // by the restore's name

  // What an earlier ckptd has left.
  void load();
  void drop_orphaned_pins();
  bool owns_pin(const std::string& holder, const ckpt::CheckpointId& id) const;
  ckpt::Status save(Known& known);
  std::string directory_of(const RestoreState& state) const { return daemon_.run_dir().restore(state.name); }
  ckpt::Status check_free_locked(const std::string& name, const std::string& cure);
  void wait_for_the_last(const std::string& name);
  // The owner's, of a restore whose guest is not known to run.
  ckpt::Result<Known*> owned(const std::string& name, const std::string& token);

  void run();
  std::vector<std::string> names();
  void watch(const ProcessId& process);
  void wait_for_a_death(int time_limit_ms);
  void step(const std::string& name);
  bool tend(RestoreState& state);
  bool tend_start(RestoreState& state);
  // Of a libvirt domain (supervisor_domains.cc).
  bool tend_domain_start(RestoreState& state);
  bool tend_domain(RestoreState& state);
  bool domain_is_there(const RestoreState& state) const;
  bool runs(const RestoreState& state) const;
  bool tend_memory(RestoreState& state, const Json& agent);
  // Starts what has died anew; `process`, of `state`, is it.
  ckpt::Status start(const RestoreState& state, const std::vector<std::string>& argv, ProcessId& process,
                     const std::string& listen_path = {});
  bool tend_agent(RestoreState& state, bool done);
  bool tend_servers(RestoreState& state);
  bool tend_disks(RestoreState& state);
  bool take_disks(RestoreState& state, const ckpt::Result<std::vector<RestoredDisk>>& disks);
  bool all_local(RestoreState& state);
  void close(RestoreState& state, const std::string& phase, const std::string& reason);
  void unpin(const RestoreState& state);
  // Puts the question to the restore's QEMU, one at a time; nothing until there is an answer.
  template <typename Answer>
  std::optional<ckpt::Result<Answer>> ask(Talks<Answer>& talks, const RestoreState& state, Question<Answer> question);
  bool may_talk(const RestoreState& state);
  // False until a program that keeps dying may be started again.
  bool may_start(const std::string& key);

  Daemon& daemon_;
  std::mutex mutex_;                       // of all that follows, and of the state files
  std::map<std::string, Known> restores_;  // by name
  std::map<std::string, Backoff> backoffs_;
  Talks<std::vector<RestoredDisk>> disk_talks_;
  Talks<bool> word_talks_;
  std::map<std::string, std::int64_t> next_talk_ms_;
  std::vector<ProcessId> watched_;  // their death is news
  std::thread thread_;
};

inline constexpr std::string_view restore_holder_prefix = "restore:";

// Neither over nor all local.
bool under_way(const RestoreState& state);

// What the agent last wrote about itself; an empty object when there is nothing to read.
Json read_agent_status(const RestoreState& state);

}  // namespace ckptd
