// SPDX-License-Identifier: LGPL-2.1-or-later
//
// One restore from QEMU's first connection to the end: the main thread's loop, and who owns what.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <semaphore>
#include <thread>
#include <vector>

#include "control.h"
#include "fault_in.h"
#include "handover.h"
#include "options.h"
#include "prefetch.h"
#include "progress.h"
#include "source.h"

namespace agent {

inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_gone = 3;

class Session {
public:
  // `signals` is a signalfd of SIGTERM, SIGINT and SIGUSR1.
  Session(const Options& options, Progress& progress, std::unique_ptr<Source> source, os::Fd listener, os::Fd control,
          os::Fd signals);
  ~Session();

  // Returns the exit code. When it is not exit_done, threads may still wait for the store: end without joining them.
  int run();

private:
  // What exists from the moment the memory is in our hands.
  struct Machine {
    Machine(std::unique_ptr<MemoryMap> map, os::Fd userfault)
        : map(std::move(map)), filler(*this->map, std::move(userfault)) {}
    std::unique_ptr<MemoryMap> map;
    Filler filler;
    std::array<std::uint8_t, 16> instance{};
    os::Fd process;  // pidfd; none when it cannot be had
    std::unique_ptr<FaultIn> fault_in;
    std::unique_ptr<Prefetch> prefetch;
    std::thread fault_thread, prefetch_thread;
  };

  // While nobody waits yet, so that no fault finds a segment that is to be opened first.
  void prepare();
  // A thread: what may be held up by a store that does not answer, and must hold up nobody.
  void tend_store();
  std::optional<int> wait_and_handle();
  std::optional<int> handle_signal();
  std::optional<int> handle_connection_event();
  void handle_newcomer();
  ckpt::Status take_on(Connection& connection);
  ckpt::Status begin(Connection& connection);
  void say_done();
  int end(State state, int code);
  std::string status_now();
  void report();
  std::string answer(const std::string& line);

  const Options& options_;
  Progress& progress_;
  std::unique_ptr<Source> source_;
  os::Fd listener_;
  Control control_;
  os::Fd signals_;
  os::Fd complete_event_;
  WorkingSet working_set_;
  Hints hints_;
  Flow flow_;
  Stop stop_;
  nlohmann::json last_service_;
  std::thread store_thread_;
  std::binary_semaphore store_tended_{0};
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<Connection> connection_;
  bool complete_ = false;
  bool done_said_ = false;
  std::chrono::steady_clock::time_point reported_at_;
};

}  // namespace agent
