// SPDX-License-Identifier: LGPL-2.1-or-later
//
// ckptd: keeps checkpoints of this host's machines in a store.
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <thread>

#include "common/text.h"
#include "daemon/control_server.h"
#include "daemon/daemon.h"
#include "daemon/housekeeper.h"
#include "daemon/log.h"
#include "daemon/supervisor.h"

namespace ckptd {
namespace {

// Waits for SIGINT and SIGTERM in a thread of its own, so that no other is interrupted.
class Signals {
public:
  explicit Signals(Daemon& daemon) : daemon_(daemon) {
    thread_ = std::thread([this] {
      sigset_t set = wanted();
      int signal = 0;
      if (::sigwait(&set, &signal) == 0) daemon_.request_stop(false, std::string("signal ") + ::strsignal(signal));
    });
  }
  ~Signals() {
    ::pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }
  static sigset_t wanted() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGINT);
    ::sigaddset(&set, SIGTERM);
    return set;
  }

private:
  Daemon& daemon_;
  std::thread thread_;
};

// True: start again, with the store opened anew.
ckpt::Result<bool> serve(Daemon::Options options) {
  CKPT_ASSIGN(auto daemon, Daemon::open(std::move(options)));
  Signals signals(*daemon);
  bool restart = false;
  {
    // Each looks for the daemon's stop by itself and is joined here.
    Supervisor supervisor(*daemon);
    Housekeeper housekeeper(*daemon);
    ControlServer server(*daemon, supervisor);
    auto started = server.start();
    if (!started.ok()) {
      daemon->request_stop(false, started.error().message());
      daemon->stop_machines();
      return started.error();
    }
    log_line("ckptd " CKPT_VERSION " serves " + daemon->options().store_path + " at " +
             daemon->run_dir().control_socket());
    restart = daemon->wait_for_stop();
    daemon->stop_machines();
  }
  return restart;
}

int run(int argc, char** argv) {
  CLI::App app("Keeps checkpoints of this host's machines in a store; ckptctl talks to it.", "ckptd");
  app.set_version_flag("--version", std::string("ckptd " CKPT_VERSION));
  Daemon::Options options;
  std::string interval = "1s", retention;
  app.add_option("--store", options.store_path, "Directory of the store; made when it is not there")
      ->type_name("DIR")
      ->required();
  app.add_option("--run-dir", options.run_dir.path, "Directory of sockets and of restores in progress")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--interval", interval, "Time between checkpoints, for machines without one of their own")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--retention", retention, "What is kept, for machines without a rule of their own: EVERY:FOR,...")
      ->type_name("RULES");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ckpt::Code::invalid);
  }
  auto fail = [](const ckpt::Error& error) {
    std::cerr << "ckptd: " << error.message() << "\n";
    return static_cast<int>(error.code);
  };
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

  ::umask(0077);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set = Signals::wanted();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  for (;;) {
    auto restart = serve(options);
    if (!restart.ok()) return fail(restart.error());
    if (!*restart) return 0;
    // The store was closed because it failed; whatever made it fail is given a moment.
    std::this_thread::sleep_for(std::chrono::seconds(2));
  }
}

}  // namespace
}  // namespace ckptd

int main(int argc, char** argv) { return ckptd::run(argc, argv); }
