// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Restores that libvirt runs: what its hook asks for (doc/libvirt.md).
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/libvirt_domain.h"
#include "common/restore_parts.h"
#include "common/text.h"
#include "daemon/log.h"
#include "daemon/restored_base.h"
#include "daemon/verbs.h"
#include "os/file.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t disk_limit = 256;
constexpr int overlay_tries = 1000;

struct WantedDisk {
  std::string name, file, target;

  bool is_nvram() const { return target == nvram_target; }
  std::string_view suffix() const { return is_nvram() ? nvram_suffix : overlay_suffix; }
};

ckpt::Result<std::vector<WantedDisk>> wanted_disks(const Json& request) {
  const Json json = request.value("disks", Json::array());
  if (!json.is_array() || json.size() > disk_limit)
    return make_error(Code::invalid, "field 'disks' is no list of at most 256");
  std::vector<WantedDisk> disks;
  for (const Json& item : json) {
    if (!item.is_object()) return make_error(Code::invalid, "a disk is not an object");
    WantedDisk disk;
    CKPT_ASSIGN(disk.name, required_string(item, "name"));
    CKPT_ASSIGN(disk.file, required_string(item, "file"));
    CKPT_ASSIGN(disk.target, string_field(item, "target"));
    if (!disk.file.starts_with('/') || !disk.file.ends_with(disk.suffix()))
      return make_error(Code::invalid, "disk '" + disk.name + "' is to be at '" + disk.file +
                                           "': name a file from the root that ends with " + std::string(disk.suffix()));
    disks.push_back(std::move(disk));
  }
  return disks;
}

// Beside what is there already.
ckpt::Result<std::string> free_path(const std::string& file, std::string_view suffix) {
  const std::string stem = file.substr(0, file.size() - suffix.size());
  std::string path = file;
  for (int i = 2; i < overlay_tries; ++i) {
    struct stat existing;
    if (::lstat(path.c_str(), &existing) != 0) return path;
    path = stem + "-" + std::to_string(i) + std::string(suffix);
  }
  return make_error(Code::exists, file + " and a thousand like it are there already: remove those of former lives");
}

// Others find the sockets whose names they know, and nothing else.
ckpt::Status open_directory(const RunDir& run_dir, const std::string& machine) {
  for (const auto& path : {run_dir.restores(), run_dir.restore(machine)})
    if (::chmod(path.c_str(), 0711) != 0) return ckpt::system_error(errno, "cannot open " + path + " for QEMU");
  return {};
}

}  // namespace

// The stream would be refused when it is too late.
ckpt::Status Verbs::check_domain(const std::string& machine, const std::string& uuid) {
  if (!is_uuid(uuid)) return make_error(Code::invalid, "field 'uuid' is no UUID");
  if (daemon_.options().libvirt_uri.empty())
    return make_error(Code::refused,
                      "ckptd follows no libvirt, which is to bring the disks home: start it with --libvirt "
                      "qemu:///system");
  CKPT_TRY(domains_.check_none_runs_as(machine, "shut it down first"));
  for (const auto& known : daemon_.store().machines())
    if (std::string its = uuid_text(known.uuid);
        known.name == machine && known.uuid != decltype(known.uuid){} && its != uuid)
      return make_error(Code::refused, "'" + machine + "' is in the store with UUID " + its + ", this domain has " +
                                           uuid + ": give this one a name of its own with machine='NAME'");
  return {};
}

// A point is restored as the domain that it recorded; as another one it is a clone's, which is new and says whose it
// is.
ckpt::Status Verbs::check_identity(const ckpt::CheckpointId& source, const RestoreState& wanted,
                                   const std::string& clone_of) {
  CKPT_ASSIGN(Json described, describe(source));
  const std::string its = text_of(member_of(member_of(described, "config"), "domain"), "uuid");
  const std::string point = ckpt::to_string(source);
  if (clone_of.empty() && wanted.domain == its) return {};
  if (clone_of.empty())
    return make_error(Code::refused, point + " is of the domain with UUID " + its + ", this one has " + wanted.domain +
                                         ": 'ckptctl clone' makes another machine of it");
  if (clone_of != its)
    return make_error(Code::refused, point + " is of the domain with UUID " + its + ", and not of " + clone_of +
                                         ", as the clone's XML says: 'ckptctl clone' again");
  if (wanted.domain == its || wanted.name == source.machine)
    return make_error(Code::refused,
                      "a clone of " + point + " has a name and a UUID of its own: 'ckptctl clone' again");
  auto known = daemon_.names();
  if (std::find(known.begin(), known.end(), wanted.name) != known.end())
    return make_error(Code::exists,
                      "'" + wanted.name + "' is a machine already, and a clone is a new one: choose another name");
  return {};
}

// QEMU reads all of it before it loads the machine's state: nothing is there to be lazy about.
ckpt::Status Verbs::copy_nvram(const ckpt::CheckpointId& source, const std::string& disk, const std::string& file) {
  CKPT_ASSIGN(auto reader, daemon_.store().open_checkpoint(source));
  CKPT_ASSIGN(std::string variables, read_disk(*reader, disk, nvram_limit_bytes));
  return os::write_file(file, variables);
}

ckpt::Status Verbs::prepare_domain(const Json& request, const ckpt::CheckpointInfo& source, RestoreState& state) {
  CKPT_ASSIGN(auto wanted, wanted_disks(request));
  CKPT_ASSIGN(std::string run_dir, required_string(request, "run_dir"));
  CKPT_ASSIGN(Json begun, prepare_restore(source, state));
  CKPT_ASSIGN(std::string qemu_img, find_qemu_img());
  state.agent_status = text_of(begun, "directory") + "/agent.json";
  CKPT_ASSIGN(state.agent_argv, agent_command(state, begun));
  for (const Json& object : member_of(begun, "objects")) {
    if (text_of(object, "class") != "disk") continue;
    const std::string name = text_of(object, "name");
    auto disk = std::find_if(wanted.begin(), wanted.end(), [&](const WantedDisk& at) { return at.name == name; });
    if (disk == wanted.end())
      return make_error(Code::refused, state.source + " has a disk '" + name + "' that the domain's XML lacks");
    RestoredDisk restored{.name = name, .target = disk->target, .overlay = disk->file};
    if (!state.revert) {
      CKPT_ASSIGN(restored.overlay, free_path(disk->file, disk->suffix()));
    }
    if (disk->is_nvram()) {
      CKPT_TRY(copy_nvram(source.id, name, restored.overlay));
      restored.local = true;
      state.disks.push_back(std::move(restored));
      wanted.erase(disk);
      continue;
    }
    CKPT_ASSIGN(restored.server_argv, disk_server_command(state, begun, name));
    // As QEMU sees it.
    const std::string socket = state.server_socket(RunDir{run_dir}.restore(state.name), state.disks.size());
    CKPT_TRY((state.revert ? remake_overlay : make_overlay)(qemu_img, restored.overlay, socket,
                                                            number_of(object, "size_bytes")));
    state.disks.push_back(std::move(restored));
    wanted.erase(disk);
  }
  if (wanted.empty()) return {};
  return make_error(Code::refused,
                    state.source + " has no disk '" + wanted.front().name + "', as the domain's XML says");
}

ckpt::Result<Json> Verbs::domain_restore_begin(const Json& request, const Reply&) {
  CKPT_ASSIGN(auto info, resolve(request));
  RestoreState wanted;
  CKPT_ASSIGN(wanted.name, required_string(request, "as"));
  CKPT_ASSIGN(wanted.domain, required_string(request, "uuid"));
  CKPT_ASSIGN(std::string clone_of, string_field(request, "clone_of"));
  CKPT_TRY(check_domain(wanted.name, wanted.domain));
  if (auto same = check_identity(info.id, wanted, clone_of); !same.ok()) return why_not(info.id, same.error());
  wanted.source = ckpt::to_string(info.id);
  wanted.mode = "aggressive";
  wanted.libvirt_uri = daemon_.options().libvirt_uri;
  wanted.revert = flag_of(request, "revert");
  wanted.frozen = info.frozen;
  CKPT_ASSIGN(RestoreState state, supervisor_.reserve(wanted));
  auto done = prepare_domain(request, info, state);
  // What was made is in the record, whatever comes.
  auto saved = supervisor_.update(state.token, state, Json());
  supervisor_.prepared(state.name);
  if (done.ok()) done = saved;
  if (!done.ok()) {
    (void)supervisor_.abandon(state.name, state.token, done.error().message());
    return why_not(info.id, done.error());
  }
  log_line(state.name + ": libvirt's " + (state.revert ? "revert to " : "restore from ") + state.source + " begins");
  Json disks = Json::array();
  for (const auto& disk : state.disks) disks.push_back({{"name", disk.name}, {"overlay", disk.overlay}});
  return Json{{"token", state.token}, {"disks", disks}};
}

// Both outlive this process; each is in the record before it does anything.
ckpt::Status Verbs::start_domain(RestoreState& state) {
  const std::string directory = daemon_.run_dir().restore(state.name);
  CKPT_TRY(open_directory(daemon_.run_dir(), state.name));
  auto start = [&](const std::vector<std::string>& argv, SpawnOptions options, ProcessId& process) -> ckpt::Status {
    options.directory = "/";
    options.log_path = state.log_path(directory);
    options.record = [&](const ProcessId& started) {
      process = started;
      return supervisor_.update(state.token, state, Json());
    };
    auto started = spawn_detached(argv, options);
    return started.ok() ? ckpt::Status() : ckpt::Status(started.error());
  };
  for (std::size_t i = 0; i < state.disks.size(); ++i)
    if (!state.disks[i].local)
      CKPT_TRY(start(state.disks[i].server_argv,
                     {.listen_path = state.server_socket(directory, i), .listen_for = state.user},
                     state.disks[i].server));
  return start(state.agent_argv, {.user = state.user}, state.agent);
}

ckpt::Result<Json> Verbs::domain_restore_start(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string as, required_string(request, "as"));
  CKPT_ASSIGN(std::string token, required_string(request, "token"));
  CKPT_ASSIGN(auto user, user_from_json(member_of(request, "user")));
  CKPT_ASSIGN(RestoreState state, supervisor_.resume(as, token));
  state.user = user && user->uid != 0 && user->uid != ::geteuid() ? user : std::nullopt;
  auto done = state.frozen ? supervisor_.expect_frozen(state) : ckpt::Status();
  if (done.ok()) done = start_domain(state);
  supervisor_.prepared(as);
  if (!done.ok()) {
    (void)supervisor_.abandon(as, token, done.error().message());
    return done.error();
  }
  CKPT_ASSIGN(std::string base, granted_base(daemon_.run_dir(), as));
  return Json{{"base", base}};
}

}  // namespace ckptd
