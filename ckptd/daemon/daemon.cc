// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/daemon.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <thread>

#include "common/point.h"
#include "common/process.h"
#include "common/text.h"
#include "daemon/known_store.h"
#include "daemon/log.h"
#include "daemon/restored_base.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

ckpt::Result<std::unique_ptr<Daemon>> Daemon::open(Options options) {
  CKPT_TRY(make_directories(options.run_dir.path));
  CKPT_TRY(make_directories(options.run_dir.restores()));
  // Agents and disk servers run elsewhere and outlive this process: they get whole paths. The store's is not resolved
  // further: what it leads to may be missing or another one today.
  CKPT_ASSIGN(options.run_dir.path, absolute_path(options.run_dir.path));
  options.store_path = whole_path(options.store_path);
  CKPT_ASSIGN(auto store, open_known_store(options.state_dir, options.store_path, options.new_store));
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(options)));
  daemon->store_ = std::move(store);
  std::vector<std::string> complaints;
  CKPT_ASSIGN(auto records, daemon->files_.load(complaints));
  for (const auto& complaint : complaints) log_line("left alone: " + complaint);
  // Before a machine is heard: an epoch that it closes from now on says so.
  CKPT_TRY(daemon->frozen_.load());
  for (const auto& [name, record] : records) {
    daemon->records_[name] = record;
    // Whether a domain runs is libvirt's to say.
    if (!record.is_protected || !record.domain.empty()) continue;
    if (auto status = daemon->start_machine(name, record, {daemon->run_dir().stream_socket(name), {}}); !status.ok())
      log_line(name + ": " + status.error().message());
  }
  return daemon;
}

Daemon::Daemon(Options options)
    : options_(std::move(options)),
      stop_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      files_(options_.store_path),
      frozen_(options_.run_dir) {}

ckpt::Status Daemon::start_machine(const std::string& name, const Record& record, Machine::Door door) {
  Machine::Hooks hooks;
  hooks.store_full = [this] { request_room(); };
  hooks.store_failed = [this](const std::string& reason) {
    request_stop(true, "the store must be opened again: " + reason);
  };
  hooks.freezes = [this, name] { return frozen_.changes(name); };
  hooks.damaged = [this, name] { start_anew(name); };
  hooks.copied_anew = [this, name](std::uint64_t order) { copied_anew(name, order); };
  auto machine = std::make_shared<Machine>(*store_, options_.run_dir, name, std::move(door), record.config,
                                           record.policy, options_.stall_limit_ms, std::move(hooks));
  if (record.start_anew) machine->start_anew();
  CKPT_TRY(machine->start());
  machines_[name] = std::move(machine);
  return {};
}

std::shared_ptr<Machine> Daemon::machine(const std::string& name) const {
  std::lock_guard lock(mutex_);
  auto it = machines_.find(name);
  return it == machines_.end() ? nullptr : it->second;
}

std::map<std::string, Record> Daemon::records() const {
  std::lock_guard lock(mutex_);
  return records_;
}

std::vector<std::string> Daemon::names() const {
  std::set<std::string> names;
  for (const auto& info : store_->machines()) names.insert(info.name);
  std::lock_guard lock(mutex_);
  for (const auto& [name, record] : records_) names.insert(name);
  return {names.begin(), names.end()};
}

ckpt::Result<Policy> Daemon::protect(const std::string& name, const Json& config, const Json& policy) {
  CKPT_TRY(check_machine_name(name));
  if (name == "ckptd")
    return make_error(Code::invalid, "'ckptd' cannot name a machine: its sockets would be ckptd's own");
  std::lock_guard lock(mutex_);
  if (stop_) return make_error(Code::unavailable, "ckptd is stopping");
  auto known = records_.find(name);
  Record record = known == records_.end() ? Record{Json::object(), options_.policy, true} : known->second;
  record.is_protected = true;
  record.domain.clear();
  if (config.is_object()) record.config = config;
  if (policy.is_object()) {
    CKPT_ASSIGN(record.policy, policy_from_json(policy, record.policy));
  }
  CKPT_TRY(files_.save(name, record));
  records_[name] = record;
  auto machine = machines_.find(name);
  if (machine == machines_.end()) {
    CKPT_TRY(start_machine(name, record, {options_.run_dir.stream_socket(name), {}}));
    log_line(name + ": protected, waiting at " + options_.run_dir.stream_socket(name));
  } else {
    machine->second->set_config(record.config);
    machine->second->set_policy(record.policy);
  }
  return record.policy;
}

ckpt::Status Daemon::protect_domain(const LibvirtDomain& domain) {
  const std::string& name = domain.machine;
  std::lock_guard lock(mutex_);
  if (stop_) return make_error(Code::unavailable, "ckptd is stopping");
  auto known = records_.find(name);
  auto machine = machines_.find(name);
  if (machine != machines_.end() && known->second.domain != domain.uuid)
    return make_error(Code::busy, "another machine named '" + name + "' is protected: 'ckptctl unprotect " + name +
                                      "' if it is not needed, or give this one a name of its own with machine='NAME'");
  Record record = known == records_.end() ? Record{} : known->second;
  record.config = config_of(domain);
  record.is_protected = true;
  record.domain = domain.uuid;
  CKPT_ASSIGN(record.policy, policy_from_json(domain.policy, options_.policy));
  CKPT_TRY(files_.save(name, record));
  records_[name] = record;
  if (machine == machines_.end()) {
    CKPT_TRY(start_machine(name, record, {options_.run_dir.libvirt_socket(domain.uuid), domain.user}));
    log_line(name + ": libvirt's domain '" + domain.name + "' runs and is protected");
  } else {
    machine->second->set_config(record.config);
    machine->second->set_policy(record.policy);
    log_line(name + ": libvirt's domain '" + domain.name + "' has changed: every " +
             format_duration_ms(record.policy.interval_ms) + ", " + format_retention(record.policy));
  }
  return {};
}

void Daemon::end_domain(const std::string& name) {
  std::shared_ptr<Machine> machine;
  {
    std::lock_guard lock(mutex_);
    machine = take_machine(name);
  }
  if (machine) machine->stop();
  log_line(name + ": its domain has ended, or is no longer to be protected; its checkpoints stay");
}

ckpt::Status Daemon::unprotect(const std::string& name) {
  std::shared_ptr<Machine> machine;
  {
    std::lock_guard lock(mutex_);
    auto known = records_.find(name);
    if (known == records_.end() || !known->second.is_protected)
      return make_error(Code::not_found, "'" + name + "' is not protected: see 'ckptctl status'");
    Record record = known->second;
    record.is_protected = false;
    CKPT_TRY(files_.save(name, record));
    known->second = record;
    machine = take_machine(name);
  }
  // Without the lock: the machine's thread may be in a hook that takes it.
  if (machine) machine->stop();
  log_line(name + ": no longer protected; its checkpoints stay");
  return {};
}

Json Daemon::former(const std::string& name) const {
  std::lock_guard lock(mutex_);
  auto known = records_.find(name);
  if (known == records_.end()) return Json::object();
  return {{"config", known->second.config},
          {"protected", known->second.is_protected},
          {"domain", known->second.domain},
          {"served", machines_.contains(name)}};
}

void Daemon::put_back(const std::string& name, const Json& former) {
  std::shared_ptr<Machine> machine;
  {
    std::lock_guard lock(mutex_);
    auto known = records_.find(name);
    if (known == records_.end()) return;
    if (!flag_of(former, "served")) machine = take_machine(name);
    if (former.empty()) {
      files_.remove(name);
      records_.erase(known);
    } else {
      Record& record = known->second;
      if (const Json& config = member_of(former, "config"); config.is_object()) record.config = config;
      record.is_protected = flag_of(former, "protected");
      record.domain = text_of(former, "domain");
      if (auto saved = files_.save(name, record); !saved.ok()) log_line(name + ": " + saved.error().message());
      if (auto still = machines_.find(name); still != machines_.end()) still->second->set_config(record.config);
    }
  }
  // Without the lock: see unprotect().
  if (machine) machine->stop();
}

ckpt::Status Daemon::forget(const std::string& name) {
  if (auto running = machine(name); running && running->status().connected)
    return make_error(Code::busy, "'" + name + "' is connected: stop it, or 'ckptctl unprotect " + name + "' first");
  bool stored = false;
  for (const auto& info : store_->machines()) stored = stored || info.name == name;
  std::shared_ptr<Machine> machine;
  {
    std::lock_guard lock(mutex_);
    if (!stored && !records_.contains(name))
      return make_error(Code::not_found, "no machine is named '" + name + "': see 'ckptctl status'");
    if (stored) CKPT_TRY(store_->forget_machine(name));
    machine = take_machine(name);
    files_.remove(name);
    ::unlink(working_set(name).c_str());
    revoke_base(run_dir(), name);
    records_.erase(name);
  }
  if (machine) machine->stop();
  log_line(name + ": forgotten");
  return {};
}

std::shared_ptr<Machine> Daemon::take_machine(const std::string& name) {
  auto running = machines_.find(name);
  if (running == machines_.end()) return nullptr;
  auto machine = std::move(running->second);
  machines_.erase(running);
  return machine;
}

ckpt::Result<Policy> Daemon::set_policy(const std::string& name, const Json& policy) {
  std::lock_guard lock(mutex_);
  auto known = records_.find(name);
  if (known == records_.end())
    return make_error(Code::not_found, "no machine is named '" + name + "': 'ckptctl protect " + name + "' first");
  Record record = known->second;
  CKPT_ASSIGN(record.policy, policy_from_json(policy, record.policy));
  CKPT_TRY(files_.save(name, record));
  known->second = record;
  if (auto machine = machines_.find(name); machine != machines_.end()) machine->second->set_policy(record.policy);
  return record.policy;
}

bool Daemon::start_anew(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto known = records_.find(name);
  if (known == records_.end()) return false;
  // First: whatever ends from here on, nothing is continued.
  known->second.start_anew = true;
  if (auto saved = files_.save(name, known->second); !saved.ok()) log_line(name + ": " + saved.error().message());
  if (auto machine = machines_.find(name); machine != machines_.end()) machine->second->start_anew();
  return true;
}

std::vector<std::string> Daemon::copy_anew(std::span<const ckpt::Damage> damages) {
  std::vector<std::string> names;
  for (const auto& name : store_->undermined(damages)) {
    if (!start_anew(name)) continue;
    log_line(name + ": its next checkpoints would build upon damage (" + damages.front().place +
             (damages.size() > 1 ? ", or another of " + std::to_string(damages.size()) + " places" : "") +
             "): everything is copied anew");
    names.push_back(name);
  }
  return names;
}

// Orders are given with the lock held, so none comes between.
void Daemon::copied_anew(const std::string& name, std::uint64_t order) {
  std::lock_guard lock(mutex_);
  auto known = records_.find(name);
  auto machine = machines_.find(name);
  if (known == records_.end() || machine == machines_.end() || !machine->second->fulfil(order)) return;
  known->second.start_anew = false;
  // When this is not saved, everything is copied once more after a restart.
  if (auto saved = files_.save(name, known->second); !saved.ok()) log_line(name + ": " + saved.error().message());
}

ckpt::Result<std::vector<ckpt::CheckpointInfo>> Daemon::checkpoints(const std::string& machine) const {
  auto kept = store_->checkpoints(machine);
  if (kept.ok() || kept.error().code != Code::not_found) return kept;
  std::lock_guard lock(mutex_);
  if (records_.contains(machine)) return std::vector<ckpt::CheckpointInfo>();
  return make_error(Code::not_found, "no machine is named '" + machine + "': see 'ckptctl status'");
}

ckpt::Result<ckpt::CheckpointInfo> Daemon::resolve(const std::string& machine, const std::string& point) const {
  CKPT_TRY(check_machine_name(machine));
  CKPT_ASSIGN(auto kept, checkpoints(machine));
  return resolve_point(machine, point, kept);
}

ckpt::Status Daemon::check_not_running(const std::string& name) const {
  auto running = machine(name);
  CKPT_ASSIGN(ProcessId process, read_pid_file(run_dir().pid_file(name)));
  // A QEMU that has just been killed is about to be noticed by its machine's thread.
  for (int i = 0; i < 100 && running && running->status().connected && process.known() && !alive(process); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (running && running->status().connected)
    return make_error(Code::busy, "'" + name + "' runs: stop it first, or restore beside it with --as NEWNAME");
  if (alive(process))
    return make_error(Code::busy, "'" + name + "' runs as process " + std::to_string(process.pid) +
                                      ": stop it first, or restore beside it with --as NEWNAME");
  return {};
}

void Daemon::request_room() {
  std::lock_guard lock(mutex_);
  room_wanted_ = true;
  changed_.notify_all();
}

void Daemon::wait_for_chores(int time_limit_ms) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(time_limit_ms), [this] { return room_wanted_ || stop_; });
  room_wanted_ = false;
}

void Daemon::names_changed() {
  std::lock_guard lock(mutex_);
  names_changed_ = true;
  changed_.notify_all();
}

void Daemon::wait_for_names(int time_limit_ms) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(time_limit_ms), [this] { return names_changed_ || stop_; });
  names_changed_ = false;
}

void Daemon::request_stop(bool restart, const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (stop_ && (restart || !restart_)) return;
  log_line(std::string(restart ? "starting again: " : "stopping: ") + reason);
  stop_ = true;
  restart_ = restart;
  std::uint64_t one = 1;
  (void)!::write(stop_fd_.get(), &one, sizeof(one));
  changed_.notify_all();
}

void Daemon::wait_for_stop() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stop_; });
}

bool Daemon::to_restart() const {
  std::lock_guard lock(mutex_);
  return restart_;
}

bool Daemon::stopping() const {
  std::lock_guard lock(mutex_);
  return stop_;
}

void Daemon::stop_machines() {
  std::map<std::string, std::shared_ptr<Machine>> machines;
  {
    std::lock_guard lock(mutex_);
    machines.swap(machines_);
  }
  for (auto& [name, machine] : machines) machine->stop();
}

}  // namespace ckptd
