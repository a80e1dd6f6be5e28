// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Verbs that change something.
#include <unistd.h>

#include <algorithm>

#include "common/point.h"
#include "common/restore_parts.h"
#include "common/text.h"
#include "daemon/consistent_point.h"
#include "daemon/libvirt_snapshots.h"
#include "daemon/log.h"
#include "daemon/restored_base.h"
#include "daemon/verbs.h"
#include "os/file.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr const char* edit_its_xml =
    "its XML says how it is protected, and is changed by 'ckptctl protect', 'ckptctl unprotect' or 'virsh metadata'";
constexpr std::uint64_t checkpoint_limit_s = 60;
constexpr std::size_t holder_limit_bytes = 128;

Json object_or_null(const Json& request, const char* key) {
  auto it = request.find(key);
  return it != request.end() && it->is_object() ? *it : Json();
}

ckpt::Result<std::string> holder_of(const Json& request) {
  CKPT_ASSIGN(std::string holder, string_field(request, "holder", "admin"));
  if (holder.empty() || holder.size() > holder_limit_bytes)
    return make_error(Code::invalid, "a pin's holder has 1 to 128 bytes");
  return holder;
}

ckpt::Error is_snapshot(const ckpt::CheckpointInfo& info) {
  return make_error(Code::busy, ckpt::to_string(info.id) + " is a snapshot of libvirt's" +
                                    (info.name.empty() ? ", which is being taken away: try again"
                                                       : ": take its name away first, 'ckptctl name " +
                                                             ckpt::to_string(info.id) + "'"));
}

}  // namespace

ckpt::Result<Json> Verbs::checkpoint(const Json& request, const Reply& reply) {
  CKPT_ASSIGN(std::string machine_name, required_string(request, "machine"));
  CKPT_ASSIGN(std::string point_name, string_field(request, "name"));
  CKPT_ASSIGN(std::uint64_t limit_s, number_field(request, "timeout_s", checkpoint_limit_s));
  if (limit_s == 0 || limit_s > 86'400) return make_error(Code::invalid, "field 'timeout_s' is 1 to 86,400");
  if (!point_name.empty()) {
    CKPT_TRY(check_point_name(point_name));
    if (auto taken = daemon_.resolve(machine_name, point_name); taken.ok() && taken->name == point_name)
      return make_error(Code::exists, ckpt::to_string(taken->id) + " is named '" + point_name +
                                          "' already: choose another name or remove that one");
  }
  auto machine = daemon_.machine(machine_name);
  if (!machine) return make_error(Code::not_found, "'" + machine_name + "' is not protected: see 'ckptctl status'");
  CKPT_ASSIGN(auto info, flag_of(request, "consistent")
                             ? take_consistent_point(daemon_, machine_name, limit_s * 1000, reply.gone)
                             : machine->take_now(limit_s * 1000, reply.gone));
  if (!point_name.empty()) {
    CKPT_TRY(daemon_.store().name(info.id, point_name));
    daemon_.names_changed();
    info.name = point_name;
  }
  return Json{{"checkpoint", checkpoint_json(info)}};
}

ckpt::Result<Json> Verbs::name(const Json& request, const Reply&) {
  CKPT_ASSIGN(auto info, resolve(request));
  CKPT_ASSIGN(std::string given, string_field(request, "name"));
  if (!given.empty()) {
    CKPT_TRY(check_point_name(given));
    if (auto taken = daemon_.resolve(info.id.machine, given);
        taken.ok() && taken->name == given && taken->id.number != info.id.number)
      return make_error(Code::exists, ckpt::to_string(taken->id) + " is named '" + given + "' already");
  }
  CKPT_TRY(daemon_.store().name(info.id, given));
  daemon_.names_changed();
  info.name = given;
  return Json{{"checkpoint", checkpoint_json(info)}};
}

ckpt::Result<Json> Verbs::pin(const Json& request, const Reply&) {
  CKPT_ASSIGN(auto info, resolve(request));
  CKPT_ASSIGN(std::string holder, holder_of(request));
  if (holder.starts_with(restore_holder_prefix))
    return make_error(Code::invalid, "pins of '" + std::string(restore_holder_prefix) +
                                         "…' are a restore's own, which ckptd drops with it: choose another holder");
  if (holder == snapshot_holder)
    return make_error(Code::invalid, "that pin is of libvirt's snapshots, and ckptd's own: choose another holder");
  CKPT_TRY(daemon_.store().pin(info.id, holder));
  if (std::find(info.pins.begin(), info.pins.end(), holder) == info.pins.end()) info.pins.push_back(holder);
  return Json{{"checkpoint", checkpoint_json(info)}};
}

ckpt::Result<Json> Verbs::unpin(const Json& request, const Reply&) {
  CKPT_ASSIGN(auto info, resolve(request));
  CKPT_ASSIGN(std::string holder, holder_of(request));
  if (holder == snapshot_holder && keeps_snapshots()) return is_snapshot(info);
  CKPT_TRY(daemon_.store().unpin(info.id, holder));
  // Not asked of the store again: unpinned, it may be gone by now.
  std::erase(info.pins, holder);
  return Json{{"checkpoint", checkpoint_json(info)}};
}

ckpt::Result<Json> Verbs::remove(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string point, required_string(request, "point"));
  CKPT_ASSIGN(auto info, resolve(request));
  if (std::find(info.pins.begin(), info.pins.end(), snapshot_holder) != info.pins.end() && keeps_snapshots())
    return is_snapshot(info);
  std::uint64_t number = info.id.number;
  CKPT_TRY(daemon_.store().remove(info.id.machine, {&number, 1}));
  log_line(info.id.machine + ": " + ckpt::to_string(info.id) + " removed by request");
  daemon_.request_room();
  return Json{{"checkpoint", checkpoint_json(info)}};
}

ckpt::Result<Json> Verbs::forget(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string machine, required_string(request, "machine"));
  CKPT_TRY(domains_.check_none_runs_as(machine, "shut it down first"));
  CKPT_TRY(supervisor_.check_free(machine, "wait for its end"));
  auto forgotten = daemon_.forget(machine);
  if (!forgotten.ok() && forgotten.error().code != Code::not_found) return forgotten.error();
  // A restore that failed may be all that there is of a name.
  bool restored = supervisor_.forget(machine);
  if (!forgotten.ok() && !restored) return forgotten.error();
  daemon_.request_room();
  return Json(Json::object());
}

ckpt::Result<Json> Verbs::protect(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string machine, required_string(request, "machine"));
  CKPT_TRY(domains_.check_none_runs_as(machine, edit_its_xml));
  Json config = object_or_null(request, "config");
  // A new command line is a new QEMU: it must not meet a running one.
  if (config.is_object()) CKPT_TRY(daemon_.check_not_running(machine));
  CKPT_ASSIGN(Policy policy, daemon_.protect(machine, config, object_or_null(request, "policy")));
  const auto& run_dir = daemon_.run_dir();
  return Json{{"socket", run_dir.stream_socket(machine)},
              {"qmp", run_dir.qmp_socket(machine)},
              {"pid_file", run_dir.pid_file(machine)},
              {"policy", policy_to_json(policy)}};
}

ckpt::Result<Json> Verbs::unprotect(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string machine, required_string(request, "machine"));
  CKPT_TRY(domains_.check_none_runs_as(machine, edit_its_xml));
  CKPT_TRY(daemon_.unprotect(machine));
  return Json(Json::object());
}

ckpt::Result<Json> Verbs::set(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string machine, required_string(request, "machine"));
  CKPT_TRY(domains_.check_none_runs_as(machine, edit_its_xml));
  CKPT_ASSIGN(Policy policy, daemon_.set_policy(machine, object_or_null(request, "policy")));
  return Json{{"policy", policy_to_json(policy)}};
}

// Copies the device state out of the checkpoint into a file that QEMU loads.
ckpt::Status Verbs::write_device_state(const ckpt::CheckpointId& id, const std::string& path) {
  CKPT_ASSIGN(auto reader, daemon_.store().open_checkpoint(id));
  CKPT_ASSIGN(std::string state, read_device_state(id, *reader));
  return os::write_file(path, state);
}

// Whatever it leaves undone is undone by Supervisor::abandon().
ckpt::Result<Json> Verbs::prepare_restore(const ckpt::CheckpointInfo& source, const RestoreState& state) {
  const auto& run_dir = daemon_.run_dir();
  std::string directory = run_dir.restore(state.name);
  CKPT_TRY(daemon_.store().pin(source.id, state.holder));
  CKPT_ASSIGN(Json answer, describe(source.id));
  for (const char* old : {"/agent.json", "/probe.json", "/log", "/log.old"}) ::unlink((directory + old).c_str());
  CKPT_ASSIGN(answer["base"], grant_base(run_dir, state.name, source));
  answer["store"] = daemon_.options().store_path;
  answer["directory"] = directory;
  answer["socket"] = run_dir.stream_socket(state.name);
  answer["qmp"] = run_dir.qmp_socket(state.name);
  answer["pid_file"] = run_dir.pid_file(state.name);
  answer["working_set"] = daemon_.working_set(source.id.machine);
  answer["holder"] = state.holder;
  answer["token"] = state.token;
  return answer;
}

ckpt::Result<Json> Verbs::restore_begin(const Json& request, const Reply& reply) {
  CKPT_ASSIGN(auto info, resolve(request));
  CKPT_ASSIGN(std::string as, string_field(request, "as", info.id.machine));
  CKPT_ASSIGN(std::string mode, string_field(request, "mode", "aggressive"));
  CKPT_TRY(check_machine_name(as));
  CKPT_TRY(domains_.check_none_runs_as(as, "shut it down first, or restore beside it with --as NEWNAME"));
  // Its death ends what it has begun.
  if (!reply.peer.identified())
    return make_error(Code::unavailable,
                      "ckptd cannot see in /proc who asks for a restore: ask from its PID namespace");
  RestoreState wanted;
  wanted.name = as;
  wanted.source = ckpt::to_string(info.id);
  wanted.mode = mode;
  wanted.starter = reply.peer;
  wanted.frozen = info.frozen;
  CKPT_ASSIGN(RestoreState state, supervisor_.reserve(wanted));
  auto prepared = prepare_restore(info, state);
  auto written = prepared.ok() ? write_device_state(info.id, daemon_.run_dir().device_state(as)) : ckpt::Status();
  if (!written.ok()) prepared = written.error();
  supervisor_.prepared(as);
  if (prepared.ok()) {
    log_line(as + ": restore from " + ckpt::to_string(info.id) + " begins");
    return prepared;
  }
  (void)supervisor_.abandon(as, state.token, prepared.error().message());
  return why_not(info.id, prepared.error());
}

ckpt::Error Verbs::why_not(const ckpt::CheckpointId& id, const ckpt::Error& error) {
  if (error.code != Code::corrupt) return error;
  return make_error(Code::corrupt, ckpt::to_string(id) + " is damaged (" + error.message() +
                                       "): restore another, 'ckptctl verify " + id.machine + "' says which are whole");
}

ckpt::Result<Json> Verbs::restore_update(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string token, required_string(request, "token"));
  CKPT_ASSIGN(RestoreState state, restore_from_json(object_or_null(request, "state")));
  Json config;
  if (state.phase == "resuming") {
    CKPT_ASSIGN(auto source, ckpt::parse_checkpoint_id(state.source));
    CKPT_ASSIGN(config, describe(source));
    config = config["config"];
  }
  CKPT_TRY(supervisor_.update(token, std::move(state), config));
  return Json(Json::object());
}

ckpt::Result<Json> Verbs::restore_abandon(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string as, required_string(request, "as"));
  CKPT_ASSIGN(std::string token, required_string(request, "token"));
  CKPT_ASSIGN(std::string reason, string_field(request, "reason", "given up"));
  CKPT_TRY(check_machine_name(as));
  CKPT_TRY(supervisor_.abandon(as, token, reason));
  return Json(Json::object());
}

ckpt::Result<Json> Verbs::finish(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string machine, required_string(request, "machine"));
  CKPT_TRY(supervisor_.finish(machine));
  return Json(Json::object());
}

}  // namespace ckptd
