// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/libvirt_domains.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <filesystem>

#include "daemon/log.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::string_view suffix = ".json";
constexpr std::size_t domain_limit = 4096;
constexpr int unwatched_interval_ms = 1000;
constexpr int again_interval_ms = 5000;
constexpr std::uint32_t events = IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

}  // namespace

LibvirtDomains::LibvirtDomains(Daemon& daemon) : daemon_(daemon) {
  watch();
  look();
  thread_ = std::thread([this] { run(); });
}

LibvirtDomains::~LibvirtDomains() { thread_.join(); }

void LibvirtDomains::watch() {
  inotify_.reset();
  auto made = make_libvirt_directory(daemon_.run_dir());
  std::string complaint = made.ok() ? "" : "libvirt: " + made.error().message();
  if (complaint != complaint_ && !made.ok()) log_line(complaint);
  complaint_ = complaint;
  if (!made.ok()) return;
  inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (inotify_ && ::inotify_add_watch(inotify_.get(), daemon_.run_dir().libvirt().c_str(), events) < 0)
    inotify_.reset();
}

void LibvirtDomains::run() {
  while (!daemon_.stopping()) {
    pollfd entries[] = {{daemon_.stop_fd(), POLLIN, 0}, {inotify_.get(), POLLIN, 0}};
    int changed = ::poll(entries, 2, inotify_ ? again_interval_ms : unwatched_interval_ms);
    if (daemon_.stopping()) return;
    if (changed > 0) {
      alignas(inotify_event) char buffer[16 << 10];
      ssize_t length = ::read(inotify_.get(), buffer, sizeof(buffer));
      // Which file it was does not matter; that the directory itself has gone does.
      std::error_code error;
      if (length <= 0 || !std::filesystem::exists(daemon_.run_dir().libvirt(), error)) inotify_.reset();
    }
    if (!inotify_) watch();
    look();
  }
}

std::map<std::string, std::string> LibvirtDomains::read_files() const {
  std::map<std::string, std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.run_dir().libvirt(), error)) {
    std::string name = entry.path().filename();
    std::string uuid = name.substr(0, name.size() - std::min(name.size(), suffix.size()));
    if (!name.ends_with(suffix) || !is_uuid(uuid) || files.size() == domain_limit) continue;
    auto content = os::read_file(entry.path(), json_line_limit_bytes);
    // Gone since the directory was read.
    if (!content.ok() && content.error().code == Code::not_found) continue;
    files[uuid] = content.ok() ? content.take() : "";
  }
  return files;
}

void LibvirtDomains::look() {
  // Nobody's older look comes after a newer one.
  std::lock_guard lock(mutex_);
  auto files = read_files();
  // First those that have ended: the next may have their names.
  for (auto it = domains_.begin(); it != domains_.end();) {
    bool gone = !files.contains(it->first);
    if (gone) end(it->second);
    it = gone ? domains_.erase(it) : std::next(it);
  }
  for (const auto& [uuid, content] : files) {
    auto known = domains_.find(uuid);
    if (known == domains_.end() || known->second.content != content)
      take_in(uuid, content);
    else if (known->second.again)
      protect(known->second);
  }
}

void LibvirtDomains::take_in(const std::string& uuid, const std::string& content) {
  auto json = parse_object(content);
  auto domain = json.ok() ? libvirt_domain_from_json(*json) : ckpt::Result<LibvirtDomain>(json.error());
  if (domain.ok() && domain->uuid != uuid) domain = make_error(Code::invalid, "field 'uuid' is another domain's");
  Known& known = domains_[uuid];
  Known now;
  now.content = content;
  if (domain.ok()) {
    now.domain = domain.take();
    now.error = now.domain.error;
  } else {
    now.domain.uuid = uuid;
    now.domain.name = json.ok() ? text_of(*json, "name", uuid) : uuid;
    now.error = daemon_.run_dir().libvirt_domain(uuid) + ": " + domain.error().message();
  }
  // The same machine goes on; it is let go when it is another one, or is let in by another door.
  bool goes_on =
      now.error.empty() && now.domain.machine == known.domain.machine && now.domain.user == known.domain.user;
  if (!goes_on) end(known);
  now.is_protected = known.is_protected;
  known = std::move(now);
  if (known.error.empty())
    protect(known);
  else
    log_line("libvirt's domain '" + known.domain.name + "' runs UNPROTECTED: " + known.error);
}

void LibvirtDomains::protect(Known& known) {
  auto done = daemon_.protect_domain(known.domain);
  std::string error = done.ok() ? "" : done.error().message();
  if (!done.ok() && error != known.error)
    log_line("libvirt's domain '" + known.domain.name + "' runs UNPROTECTED: " + error);
  known.is_protected = done.ok();
  known.error = error;
  known.again = !done.ok();
}

void LibvirtDomains::end(Known& known) {
  if (known.is_protected) daemon_.end_domain(known.domain.machine);
  known.is_protected = false;
}

Json LibvirtDomains::unprotected() const {
  std::lock_guard lock(mutex_);
  Json all = Json::array();
  for (const auto& [uuid, known] : domains_)
    if (!known.is_protected) all.push_back({{"uuid", uuid}, {"name", known.domain.name}, {"reason", known.error}});
  return all;
}

ckpt::Status LibvirtDomains::check_none_runs_as(const std::string& machine, const std::string& cure) {
  look();
  std::lock_guard lock(mutex_);
  for (const auto& [uuid, known] : domains_)
    if (known.is_protected && known.domain.machine == machine)
      return make_error(Code::refused,
                        "'" + machine + "' is libvirt's domain '" + known.domain.name + "', which runs: " + cure);
  return {};
}

}  // namespace ckptd
