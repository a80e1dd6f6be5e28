// SPDX-License-Identifier: LGPL-2.1-or-later
//
// One protected machine: its stream socket, the connection of its QEMU, and the pace of its checkpoints. One thread
// each.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ckpt/store.h"
#include "ckpt/stream.h"
#include "common/json.h"
#include "common/paths.h"
#include "common/policy.h"
#include "daemon/figures.h"
#include "os/fd.h"
#include "os/unix_socket.h"

namespace ckptd {

struct MachineStatus {
  std::string state = "waiting";
  std::string reason;
  bool connected = false;
  std::uint64_t remaining_bytes = 0;
  std::string consistent_trouble;  // why the last application-consistent point that was due was not taken
  std::uint64_t failures = 0;      // connections that ended with an error
  std::string qemu_version, machine_type;
  std::string base;  // MACHINE@NUMBER that the machine was restored from
  Figures figures;
};

class Machine {
public:
  struct Hooks {
    std::function<void()> store_full;                      // room is wanted
    std::function<void(const std::string&)> store_failed;  // it refuses writes until it is opened again
    std::function<std::uint64_t()> freezes;                // FrozenGuests::changes()
    std::function<void()> damaged;                         // start_anew() is wanted
    std::function<void(std::uint64_t order)> copied_anew;
  };

  // Where its QEMU connects; also as another user.
  struct Door {
    std::string path;
    std::optional<os::User> user;
  };

  // `stall_limit_ms`: a client may stop so long inside a message, and needs no longer for its HELLO.
  Machine(ckpt::Store& store, const RunDir& run_dir, std::string name, Door door, Json config, Policy policy,
          std::int64_t stall_limit_ms, Hooks hooks);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Listens and starts the thread.
  ckpt::Status start();
  // Ends the connection; what is not committed is lost to the store, not to QEMU. Once, by one thread.
  void stop();

  const std::string& name() const { return name_; }
  MachineStatus status() const;
  void set_policy(const Policy& policy);
  void set_consistent_trouble(const std::string& why);
  // QEMU has to come again when it is connected with another one. Not what a restored machine brings with its base.
  void set_config(const Json& config);

  // What the next checkpoints would build upon is damaged: nothing more of what is connected becomes a checkpoint, and
  // who greets from now on copies everything, until the first checkpoint of such a copy is there: Hooks::copied_anew
  // names the order that it was made for, and fulfil() ends that one unless another has been given since.
  void start_anew();
  bool fulfil(std::uint64_t order);

  // Of a guest that is frozen for its checkpoint.
  struct Frozen {
    std::function<bool()> holds;  // it has been all the time until now; asked with a lock held
    std::function<void()> over;   // its instant is past, or waited for no more: to be thawed. Called once
    std::int64_t limit_ms = 0;    // that instant is waited for no longer
  };
  // Takes a checkpoint as soon as possible and waits until it is durable; of a guest that is `frozen` it says so.
  // unavailable: not connected, not in time, or not frozen at its instant. cancelled: `gone` says that nobody waits any
  // more.
  ckpt::Result<ckpt::CheckpointInfo> take_now(std::uint64_t time_limit_ms, const std::function<bool()>& gone,
                                              const Frozen* frozen = nullptr);

private:
  struct Connection {
    os::Fd fd;
    std::unique_ptr<ckpt::StreamReceiver> receiver;
    std::int64_t alive_ms = 0;     // until HELLO, when it connected; then, when it last sent something
    bool greeted = false;          // HELLO accepted: this is the machine
    std::uint64_t anew_order = 0;  // the order that it copies everything for; 0: none
    std::string config;            // of its checkpoints
    bool over = false;
  };
  struct Request {
    std::uint64_t epoch = 0;  // 0: not yet taken
    const Frozen* frozen = nullptr;
    bool closed = false;  // frozen at its instant
    bool done = false;
    std::optional<ckpt::Error> error;
    ckpt::CheckpointInfo checkpoint;
  };

  void run();
  int wait_ms() const;
  void accept_one();
  void receive(Connection& connection);
  void send_output(Connection& connection);
  void check_stall(Connection& connection);
  void pace();
  void end(Connection& connection, const ckpt::Error& error);
  ckpt::Status on_hello(Connection& connection, const ckpt::StreamHello& hello);
  void remember_process(const Connection& connection);
  ckpt::StreamReceiver::Terms on_terms(Connection& connection, const ckpt::StreamHello& hello);
  Json config_for(const ckpt::CheckpointId& base);
  bool has_old_config(const Connection& connection);
  ckpt::CheckpointId on_base(const ckpt::StreamHello& hello);
  ckpt::StreamReceiver::Closed on_closed(std::uint64_t epoch);
  void on_committed(const ckpt::CheckpointInfo& info, const ckpt::EpochFigures& figures);
  void on_state(ckpt::CaptureState state, std::uint64_t remaining_bytes, const std::string& reason);
  void fail_requests(const ckpt::Error& error);
  enum class Stage { closed, durable };
  bool wait_for(std::unique_lock<std::mutex>& lock, const Request& request, Stage stage, std::int64_t end_ms,
                const std::function<bool()>& gone);
  void set_state(const std::string& state, const std::string& reason);
  void enter_full(const ckpt::Error& error);
  void retry_full();
  void wake();

  ckpt::Store& store_;
  const RunDir run_dir_;
  const std::string name_;
  const Door door_;
  const std::int64_t stall_limit_ms_;
  const Hooks hooks_;

  os::Fd listener_, wake_;
  std::list<Connection> connections_;  // of the thread
  Connection* active_ = nullptr;
  bool damaged_ = false;      // the store is read-only
  std::string base_refused_;  // why the connected QEMU copies all, though it says that it was restored
  std::int64_t next_take_ms_ = 0;
  std::uint64_t freezes_at_take_ = 0;
  std::int64_t full_until_ms_ = 0;  // 0: not full
  std::uint64_t full_free_bytes_ = 0;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  Json config_;
  bool config_changed_ = false;  // since a connection was looked at for it
  Policy policy_;
  MachineStatus status_;
  std::list<Request*> requests_;
  std::uint64_t anew_orders_ = 0;             // given so far
  std::atomic<std::uint64_t> anew_order_{0};  // the last one while it is not fulfilled; written under mutex_
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace ckptd
