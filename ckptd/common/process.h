// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Processes that outlive the one that starts them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/result.h"
#include "common/json.h"
#include "os/unix_socket.h"

namespace ckptd {

// A process, told from a later one with the same number by the time it was started.
struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // as /proc/PID/stat has it

  bool known() const { return pid > 0; }
  bool identified() const { return pid > 0 && start_time != 0; }
  bool operator==(const ProcessId&) const = default;
};

ProcessId process_id(pid_t pid);  // not identified: there is none, or it cannot be looked at
// Zombies are dead. What cannot be looked at (no descriptor, no memory) is alive as long as its number is in use.
bool alive(const ProcessId& process);
void terminate(const ProcessId& process, int signal);  // no process but this one

struct SpawnOptions {
  std::string directory;    // to run in; empty: this one
  std::string log_path;     // stdout and stderr are appended there; empty: inherited
  bool keep_input = false;  // else stdin is /dev/null
  int talk = -1;            // a descriptor that becomes its stdin and stdout
  // It gets a socket that listens there, as systemd hands one over (sd_listen_fds(3)): who connects before it is ready
  // waits for it instead of being refused. Empty: none.
  std::string listen_path;
  // Who may connect there besides us and root.
  std::optional<os::User> listen_for;
  // Runs as this user, with one right left of ours: files are open to it as they are to us.
  std::optional<os::User> user;
  // Is told of the process before that does anything; when this fails, or its caller dies in it, it never will.
  std::function<ckpt::Status(const ProcessId&)> record;
};

// Starts argv[0] (searched in PATH) in a session of its own, as no child of this process, with no descriptor above 2.
// Errors: not_found and others, when it cannot be executed; `record`'s.
ckpt::Result<ProcessId> spawn_detached(const std::vector<std::string>& argv, const SpawnOptions& options);

// Runs a helper to its end; its output, cut at 64 KiB. `watch` gets the output so far, four times a second. Errors: io
// with its last lines when it fails.
ckpt::Result<std::string> run_helper(const std::vector<std::string>& argv, std::int64_t time_limit_ms,
                                     const std::function<void(const std::string&)>& watch = {});
inline constexpr std::int64_t no_time_limit = std::numeric_limits<std::int64_t>::max() / 2;

ckpt::Status write_pid_file(const std::string& path, const ProcessId& process);
ckpt::Result<ProcessId> read_pid_file(const std::string& path);  // unknown when there is none

Json to_json(const ProcessId& process);
ProcessId process_from_json(const Json& json);

}  // namespace ckptd
