// SPDX-License-Identifier: LGPL-2.1-or-later
//
// ckptd: keeps checkpoints of this host's machines in a store.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <iostream>
#include <thread>

#include "common/text.h"
#include "daemon/consistent_points.h"
#include "daemon/control_server.h"
#include "daemon/daemon.h"
#include "daemon/housekeeper.h"
#include "daemon/libvirt_bridge.h"
#include "daemon/libvirt_domains.h"
#include "daemon/libvirt_snapshots.h"
#include "daemon/log.h"
#include "daemon/supervisor.h"
#include "daemon/thawer.h"

namespace ckptd {
namespace {

// Waits for SIGINT and SIGTERM in a thread of its own, so that no other is interrupted. One that comes after its end
// stays pending.
class Signals {
public:
  explicit Signals(Daemon& daemon) : daemon_(daemon) {
    thread_ = std::thread([this] {
      sigset_t set = blocked();
      int signal = 0;
      while (!over_ && ::sigwait(&set, &signal) == 0)
        if (signal != wake_signal) daemon_.request_stop(false, std::string("signal ") + ::strsignal(signal));
    });
  }
  ~Signals() {
    over_ = true;
    ::pthread_kill(thread_.native_handle(), wake_signal);
    thread_.join();
  }
  static sigset_t blocked() {
    sigset_t set = wanted();
    ::sigaddset(&set, wake_signal);
    return set;
  }
  static sigset_t wanted() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGINT);
    ::sigaddset(&set, SIGTERM);
    return set;
  }

private:
  static constexpr int wake_signal = SIGUSR1;

  Daemon& daemon_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

// True: start again, with the store opened anew.
ckpt::Result<bool> serve(Daemon::Options options) {
  CKPT_ASSIGN(auto daemon, Daemon::open(std::move(options)));
  {
    Signals signals(*daemon);
    // Each looks for the daemon's stop by itself and is joined here.
    Thawer thawer(*daemon);
    Supervisor supervisor(*daemon);
    Housekeeper housekeeper(*daemon);
    LibvirtDomains domains(*daemon);
    LibvirtBridge bridge(*daemon);
    LibvirtSnapshots snapshots(*daemon);
    ConsistentPoints points(*daemon);
    ControlServer server(*daemon, supervisor, domains);
    auto started = server.start();
    if (!started.ok()) {
      daemon->request_stop(false, started.error().message());
      daemon->stop_machines();
      return started.error();
    }
    log_line("ckptd " CKPT_VERSION " serves " + daemon->options().store_path + " at " +
             daemon->run_dir().control_socket());
    daemon->wait_for_stop();
    daemon->stop_machines();
  }
  return daemon->to_restart();
}

// The usual soft limit is for programs that use select(); segments, connections and processes add up.
void allow_all_descriptors() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

int fail(const ckpt::Error& error) {
  std::cerr << "ckptd: " << error.message() << "\n";
  return static_cast<int>(error.code);
}

// Serves until it is told to end. A store that fails is opened again when it is there again.
int serve_on(Daemon::Options options, const sigset_t& end_signals) {
  std::string complaint;
  for (bool served = false;; served = true) {
    auto restart = serve(options);
    if (!restart.ok() && !served) return fail(restart.error());
    if (restart.ok() && !*restart) return 0;
    if (!restart.ok() && complaint != restart.error().message()) log_line("waiting: " + restart.error().message());
    complaint = restart.ok() ? "" : restart.error().message();
    options.new_store = false;
    // Whatever made it fail is given a moment.
    timespec pause{2, 0};
    if (::sigtimedwait(&end_signals, nullptr, &pause) > 0) return 0;
  }
}

int run(int argc, char** argv) {
  CLI::App app("Keeps checkpoints of this host's machines in a store; ckptctl talks to it.", "ckptd");
  app.set_version_flag("--version", std::string("ckptd " CKPT_VERSION));
  Daemon::Options options;
  std::string interval = "1s", retention, stall_limit = "30s", freeze_limit = "10s";
  app.add_option("--store", options.store_path, "Directory of the store; made when it is not there")
      ->type_name("DIR")
      ->required();
  app.add_flag("--new-store", options.new_store, "Serve whatever store is at DIR now, and make one when there is none");
  app.add_option("--state-dir", options.state_dir, "Directory for what must be known when the store is not there")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--run-dir", options.run_dir.path, "Directory of sockets and of restores in progress")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--interval", interval, "Time between checkpoints, for machines without one of their own")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--retention", retention, "What is kept, for machines without a rule of their own: EVERY:FOR,...")
      ->type_name("RULES");
  app.add_option("--stall-limit", stall_limit, "How long a client may stop inside a message")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--freeze-limit", freeze_limit, "How long a guest stays frozen for an application-consistent point")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--libvirt", options.libvirt_uri, "Follow the domains of this libvirt while they run")
      ->type_name("URI");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ckpt::Code::invalid);
  }
  auto interval_ms = parse_duration_ms(interval);
  if (!interval_ms.ok()) return fail(interval_ms.error());
  Json policy = {{"interval_ms", *interval_ms}};
  if (!retention.empty()) {
    auto rules = parse_retention(retention);
    if (!rules.ok()) return fail(rules.error());
    policy["retention"] = *rules;
  }
  auto checked = policy_from_json(policy, Policy{});
  if (!checked.ok()) return fail(checked.error());
  options.policy = *checked;
  auto stall_limit_ms = parse_duration_ms(stall_limit);
  if (!stall_limit_ms.ok()) return fail(stall_limit_ms.error());
  if (*stall_limit_ms < 100 || *stall_limit_ms > 3'600'000)
    return fail(ckpt::make_error(ckpt::Code::invalid, "--stall-limit " + stall_limit + ": from 100ms to 1h"));
  options.stall_limit_ms = static_cast<std::int64_t>(*stall_limit_ms);
  auto freeze_limit_ms = parse_duration_ms(freeze_limit);
  if (!freeze_limit_ms.ok()) return fail(freeze_limit_ms.error());
  if (*freeze_limit_ms < 1000 || *freeze_limit_ms > 60'000)
    return fail(ckpt::make_error(ckpt::Code::invalid, "--freeze-limit " + freeze_limit + ": from 1s to 1m"));
  options.freeze_limit_ms = static_cast<std::int64_t>(*freeze_limit_ms);

  ::umask(0077);
  allow_all_descriptors();
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked = Signals::blocked();
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  return serve_on(options, Signals::wanted());
}

}  // namespace
}  // namespace ckptd

int main(int argc, char** argv) { return ckptd::run(argc, argv); }
