// SPDX-License-Identifier: LGPL-2.1-or-later
//
#include "run_agent.h"

#include <sys/signalfd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "last_status.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "session.h"

namespace agent {

namespace {

int fail(const ckpt::Error& error) {
  std::fprintf(stderr, "restore-agent: %s\n", error.message().c_str());
  return exit_failed;
}

// Before any thread: all of them leave these signals to the main loop.
os::Fd take_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&set, number);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return os::Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// For the time without a store. What the last agent has left is handed on: who finds the store may be our successor.
void report_waiting(const Options& options, Progress& progress, const LastStatus& last) {
  if (options.status.empty()) return;
  auto status = nlohmann::json::parse(progress.json());
  status["taken_over"] = last.had_memory;
  status["service"] = last.service.is_object() ? last.service : nlohmann::json::object();
  (void)os::replace_file(options.status, status.dump() + "\n");
}

// An agent that takes over may find the store away: the machine waits, and so do we.
ckpt::Result<std::unique_ptr<Source>> open_source(const Options& options, Progress& progress, const os::Fd& signals,
                                                  ckpt::Env& env) {
  const LastStatus last = read_last_status(options);
  for (;;) {
    auto source = Source::open(options.store, options.checkpoint, env);
    if (source.ok() || !may_pass(source.error(), last.had_memory)) return source;
    progress.set_obstacle(Obstacle::store, source.error().message());
    report_waiting(options, progress, last);
    pollfd item{signals.get(), POLLIN, 0};
    if (poll(&item, 1, 250) > 0) return ckpt::make_error(ckpt::Code::cancelled, "asked to end");
  }
}

}  // namespace

int run_agent(int argc, char** argv, ckpt::Env& env) {
  Options options;
  auto parsed = parse_options(argc, argv, options);
  if (!parsed.ok()) return fail(parsed.error());
  if (!*parsed) return exit_done;
  os::Fd signals = take_signals();
  Progress progress(options);
  auto source = open_source(options, progress, signals, env);
  if (!source.ok()) return fail(source.error());
  progress.clear_obstacle();
  os::Fd control;
  if (!options.control.empty()) {
    auto listening = os::listen_unix(options.control, os::Listener::is_replaced);
    if (!listening.ok()) return fail(listening.error());
    control = listening.take();
  }
  auto listener = os::listen_unix(options.socket, os::Listener::is_replaced);
  if (!listener.ok()) return fail(listener.error());
  Session session(options, progress, source.take(), listener.take(), std::move(control), std::move(signals));
  int code = session.run();
  // A thread may be waiting for a store that never answers; the machine needs neither of them any more.
  if (code != exit_done) std::_Exit(code);
  return code;
}

}  // namespace agent
