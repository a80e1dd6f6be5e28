// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session.h"

#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include "last_status.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "presence.h"

namespace agent {

using ckpt::Code;
using ckpt::make_error;
using ckpt::Status;
using std::chrono::steady_clock;

namespace {

constexpr int report_ms = 500;
constexpr std::uint64_t prepare_pages = 65536;
constexpr auto save_interval = std::chrono::seconds(5);
constexpr auto last_save_limit = std::chrono::seconds(2);

std::string answer_of(const Status& status) {
  nlohmann::json out = {{"ok", status.ok()}};
  if (!status.ok()) out["error"] = status.error().context;
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool is_mark_name(const std::string& name) {
  return !name.empty() && name.size() <= 32 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::islower(c) || std::isdigit(c) || c == '_';
  });
}

}  // namespace

Session::Session(const Options& options, Progress& progress, std::unique_ptr<Source> source, os::Fd listener,
                 os::Fd control, os::Fd signals)
    : options_(options),
      progress_(progress),
      source_(std::move(source)),
      listener_(std::move(listener)),
      control_(std::move(control), [this](const std::string& line) { return answer(line); }),
      signals_(std::move(signals)),
      complete_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      working_set_(options.working_set),
      store_thread_([this] { tend_store(); }) {}

Session::~Session() {
  stop_.request();
  store_thread_.join();
  if (machine_ && machine_->fault_thread.joinable()) machine_->fault_thread.join();
  if (machine_ && machine_->prefetch_thread.joinable()) machine_->prefetch_thread.join();
}

void Session::prepare() {
  for (std::size_t i = 0; i < source_->objects().size(); ++i) {
    const ckpt::Object& object = source_->objects()[i];
    if (object.object_class != ckpt::ObjectClass::ram) continue;
    std::uint64_t pages = object.size_bytes / ckpt::page_size_bytes;
    // An error will come again to who reads, and be told then.
    for (std::uint64_t page = 0; page < pages && !stop_.requested(); page += prepare_pages)
      (void)source_->prepare(i, page, std::min(page + prepare_pages, pages));
  }
}

void Session::tend_store() {
  prepare();
  while (stop_.sleep(save_interval)) (void)working_set_.save();
  (void)working_set_.save();
  store_tended_.release();
}

int Session::run() {
  last_service_ = read_last_status(options_).service;
  report();
  for (;;) {
    if (auto code = wait_and_handle()) return *code;
    if (steady_clock::now() - reported_at_ >= std::chrono::milliseconds(report_ms)) report();
  }
}

std::optional<int> Session::wait_and_handle() {
  std::vector<pollfd> items = {{signals_.get(), POLLIN, 0},
                               {listener_.get(), POLLIN, 0},
                               {complete_event_.get(), POLLIN, 0},
                               {connection_ ? connection_->descriptor() : -1, POLLIN, 0},
                               {machine_ && machine_->process ? machine_->process.get() : -1, POLLIN, 0}};
  control_.add_to(items);
  if (poll(items.data(), items.size(), report_ms) < 0) return std::nullopt;  // a signal; looked at next time
  if (items[0].revents)
    if (auto code = handle_signal()) return code;
  if (items[2].revents) {
    eventfd_t count;
    eventfd_read(complete_event_.get(), &count);
    complete_ = true;
    progress_.service.end(steady_clock::now());
    say_done();
  }
  if (items[3].revents)
    if (auto code = handle_connection_event()) return code;
  if (items[4].revents) return done_said_ ? end(State::done, exit_done) : end(State::gone, exit_gone);
  if (items[1].revents) handle_newcomer();
  control_.handle();
  return std::nullopt;
}

std::optional<int> Session::handle_signal() {
  signalfd_siginfo info;
  if (::read(signals_.get(), &info, sizeof(info)) != sizeof(info)) return std::nullopt;
  if (info.ssi_signo != SIGUSR1) return end(State::stopped, exit_failed);
  if (progress_.mode() == Mode::lazy) progress_.set_mode(Mode::aggressive);
  return std::nullopt;
}

std::optional<int> Session::handle_connection_event() {
  std::uint8_t byte;
  ssize_t n = recv(connection_->descriptor(), &byte, 1, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  // The end, or bytes where none are allowed. QEMU answers DONE by closing; else it comes back if it lives.
  connection_.reset();
  if (n == 0 && done_said_) return end(State::done, exit_done);
  done_said_ = false;
  progress_.set_state(State::waiting_for_qemu);
  return std::nullopt;
}

void Session::handle_newcomer() {
  auto socket = os::accept_unix(listener_);
  if (!socket.ok()) return;
  auto connection = Connection::meet(socket.take(), source_->objects());
  Status taken = connection.ok() ? take_on(**connection) : Status(connection.error());
  if (taken.ok()) {
    connection_ = connection.take();
    progress_.set_state(State::restoring);
    progress_.mark("ready");
    say_done();
  } else {
    if (connection.ok()) (*connection)->refuse(taken.error().context);
    std::fprintf(stderr, "restore-agent: %s\n", taken.error().message().c_str());
  }
  report();
}

Status Session::take_on(Connection& connection) {
  if (!machine_) {
    CKPT_TRY(begin(connection));
    return connection.ready();
  }
  if (connection.phase() == Phase::fresh || connection.instance() != machine_->instance ||
      !machine_->map->same_blocks(connection.blocks()))
    return make_error(Code::busy, "this agent serves another machine already: start one for each");
  machine_->filler.wake_all();
  return connection.ready();
}

Status Session::begin(Connection& connection) {
  CKPT_ASSIGN(auto map, MemoryMap::create(connection.blocks(), source_->objects()));
  auto machine = std::make_unique<Machine>(std::move(map), connection.take_userfault());
  machine->instance = connection.instance();
  if (connection.pid() > 0) machine->process.reset(static_cast<int>(syscall(SYS_pidfd_open, connection.pid(), 0)));
  progress_.pages_total = machine->map->total_bytes() / ckpt::page_size_bytes;
  if (connection.phase() == Phase::registered) {
    progress_.set_taken_over();
    progress_.service.resume(last_service_, steady_clock::now());
    machine->filler.add_present(find_present(connection.pid(), *machine->map));
    // Messages that the last agent had read are lost, and their readers still wait.
    machine->filler.wake_all();
  }
  machine->fault_in = std::make_unique<FaultIn>(*machine->map, machine->filler, *source_, progress_, working_set_,
                                                hints_, flow_, stop_);
  machine->prefetch = std::make_unique<Prefetch>(*machine->map, machine->filler, *source_, progress_, working_set_,
                                                 hints_, flow_, stop_, complete_event_.get());
  machine->fault_thread = std::thread([served = machine->fault_in.get()] { served->run(); });
  machine->prefetch_thread = std::thread([fetched = machine->prefetch.get()] { fetched->run(); });
  machine_ = std::move(machine);
  return {};
}

void Session::say_done() {
  if (!complete_ || !connection_ || done_said_) return;
  done_said_ = connection_->done().ok();
}

int Session::end(State state, int code) {
  progress_.set_state(state);
  progress_.clear_obstacle();
  progress_.mark("end");
  stop_.request();
  (void)store_tended_.try_acquire_for(last_save_limit);
  report();
  return code;
}

std::string Session::status_now() {
  if (machine_) progress_.pages_present = machine_->filler.present_pages();
  // What is zero needs no filling: it is there as soon as the rest is.
  if (complete_) progress_.pages_present = progress_.pages_total.load();
  return progress_.json();
}

void Session::report() {
  reported_at_ = steady_clock::now();
  std::string status = status_now();
  // These files are worth nothing compared with the machine: a full disk must not end its restore.
  if (!options_.status.empty()) (void)os::replace_file(options_.status, status + "\n");
  control_.publish(status);
}

std::string Session::answer(const std::string& line) {
  std::size_t space = line.find(' ');
  std::string verb = line.substr(0, space);
  std::string value = space == std::string::npos ? "" : line.substr(space + 1);
  if (verb == "status" && value.empty()) return status_now();
  if (verb == "mode") {
    auto mode = mode_from(value);
    if (mode.ok()) progress_.set_mode(*mode);
    return answer_of(mode.ok() ? Status() : Status(mode.error()));
  }
  if (verb == "mark" && is_mark_name(value)) {
    progress_.mark(value);
    return answer_of({});
  }
  if (verb == "vcpus") {
    auto threads = threads_from(value);
    if (threads.ok()) progress_.service.begin(threads.take(), steady_clock::now());
    return answer_of(threads.ok() ? Status() : Status(threads.error()));
  }
  if (verb == "bandwidth") {
    auto bytes = bytes_from(value);
    if (bytes.ok()) progress_.bandwidth_bytes_s = *bytes;
    return answer_of(bytes.ok() ? Status() : Status(bytes.error()));
  }
  return answer_of(make_error(
      Code::invalid, "known: status, watch, mode lazy|aggressive|full, mark NAME, bandwidth BYTES, vcpus THREAD,…"));
}

}  // namespace agent
