// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/restore_state.h"

#include <algorithm>

#include "common/libvirt_domain.h"
#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t disk_limit = 256;

ProcessId process_of(const Json& json, const char* key) {
  auto it = json.find(key);
  return it == json.end() ? ProcessId{} : process_from_json(*it);
}

ckpt::Result<RestoredDisk> disk_from_json(const Json& json) {
  if (!json.is_object()) return make_error(Code::invalid, "a disk is not an object");
  RestoredDisk disk;
  CKPT_ASSIGN(disk.name, required_string(json, "name"));
  CKPT_ASSIGN(disk.overlay, required_string(json, "overlay"));
  disk.target = text_of(json, "target");
  disk.node = text_of(json, "node");
  CKPT_ASSIGN(disk.server_argv, string_array(json, "server_argv"));
  disk.server = process_of(json, "server");
  disk.streaming = flag_of(json, "streaming");
  disk.local = flag_of(json, "local");
  return disk;
}

}  // namespace

Json to_json(const RestoreState& state) {
  Json disks = Json::array();
  for (const auto& disk : state.disks)
    disks.push_back({{"name", disk.name},
                     {"target", disk.target},
                     {"overlay", disk.overlay},
                     {"node", disk.node},
                     {"server_argv", disk.server_argv},
                     {"server", to_json(disk.server)},
                     {"streaming", disk.streaming},
                     {"local", disk.local}});
  return {{"version", 1},
          {"name", state.name},
          {"source", state.source},
          {"mode", state.mode},
          {"phase", state.phase},
          {"reason", state.reason},
          {"holder", state.holder},
          {"token", state.token},
          {"starter", to_json(state.starter)},
          {"agent", to_json(state.agent)},
          {"memory_local", state.memory_local},
          {"agent_argv", state.agent_argv},
          {"agent_status", state.agent_status},
          {"agent_restarts", state.agent_restarts},
          {"qemu", to_json(state.qemu)},
          {"qmp", state.qmp},
          {"disks", disks},
          {"bandwidth_bytes_s", state.bandwidth_bytes_s},
          {"probes", state.probes},
          {"probe_timeout_ms", state.probe_timeout_ms},
          {"domain", state.domain},
          {"libvirt_uri", state.libvirt_uri},
          {"user", user_to_json(state.user)},
          {"defined", state.defined},
          {"revert", state.revert},
          {"frozen", state.frozen},
          {"former", state.former},
          {"begun_ns", state.begun_ns},
          {"running_ns", state.running_ns},
          {"local_ns", state.local_ns}};
}

ckpt::Result<RestoreState> restore_from_json(const Json& json) {
  if (number_of(json, "version") != 1) return make_error(Code::version, "a restore's state of another version");
  RestoreState state;
  CKPT_ASSIGN(state.name, required_string(json, "name"));
  CKPT_TRY(check_machine_name(state.name));
  CKPT_ASSIGN(state.source, required_string(json, "source"));
  CKPT_ASSIGN(state.mode, required_string(json, "mode"));
  CKPT_ASSIGN(state.phase, required_string(json, "phase"));
  state.reason = text_of(json, "reason");
  CKPT_ASSIGN(state.holder, required_string(json, "holder"));
  state.token = text_of(json, "token");
  state.starter = process_of(json, "starter");
  state.agent = process_of(json, "agent");
  state.memory_local = flag_of(json, "memory_local");
  CKPT_ASSIGN(state.agent_argv, string_array(json, "agent_argv"));
  state.agent_status = text_of(json, "agent_status");
  state.agent_restarts = number_of(json, "agent_restarts");
  state.qemu = process_of(json, "qemu");
  state.qmp = text_of(json, "qmp");
  auto disks = json.find("disks");
  if (disks != json.end() && disks->is_array()) {
    if (disks->size() > disk_limit) return make_error(Code::limit, "more than 256 disks");
    for (const Json& item : *disks) {
      CKPT_ASSIGN(RestoredDisk disk, disk_from_json(item));
      state.disks.push_back(std::move(disk));
    }
  }
  if (json.contains("probes")) {
    CKPT_ASSIGN(state.probes, string_array(json, "probes"));
  }
  state.bandwidth_bytes_s = number_of(json, "bandwidth_bytes_s");
  state.probe_timeout_ms = number_of(json, "probe_timeout_ms");
  state.domain = text_of(json, "domain");
  state.libvirt_uri = text_of(json, "libvirt_uri");
  CKPT_ASSIGN(state.user, user_from_json(member_of(json, "user")));
  state.defined = flag_of(json, "defined");
  state.revert = flag_of(json, "revert");
  state.frozen = flag_of(json, "frozen");
  if (auto former = json.find("former"); former != json.end() && former->is_object()) state.former = *former;
  state.begun_ns = number_of(json, "begun_ns");
  state.running_ns = number_of(json, "running_ns");
  state.local_ns = number_of(json, "local_ns");
  return state;
}

ckpt::Result<RestoreState> load_restore(const std::string& directory) {
  CKPT_ASSIGN(Json json, read_json_file(directory + "/state.json"));
  auto state = restore_from_json(json);
  if (!state.ok()) return make_error(state.error().code, directory + "/state.json: " + state.error().message());
  if (directory.substr(directory.rfind('/') + 1) != state->name)
    return make_error(Code::invalid, directory + "/state.json names another machine: " + state->name);
  return state;
}

ckpt::Status save_restore(const std::string& directory, const RestoreState& state) {
  return write_json_file(directory + "/state.json", to_json(state), os::Durable::no);
}

}  // namespace ckptd
