// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/restore_parts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "common/paths.h"
#include "os/file.h"

namespace ckptd {

namespace {

constexpr std::int64_t qemu_img_limit_ms = 10'000;
constexpr std::uint64_t device_state_limit_bytes = 64 << 20;
// An overlay without data is some hundred kilobytes.
constexpr std::size_t empty_overlay_limit_bytes = 16 << 20;

ckpt::Status put_in_place(const std::string& fresh, const std::string& overlay) {
  auto former = os::read_file(overlay, empty_overlay_limit_bytes);
  if (former.ok() || former.error().code != ckpt::Code::not_found) {
    CKPT_ASSIGN(std::string wanted, os::read_file(fresh, empty_overlay_limit_bytes));
    if (!former.ok() || (!former->empty() && *former != wanted))
      return ckpt::make_error(ckpt::Code::refused, overlay + " has been written to since it was made" +
                                                       (former.ok() ? "" : " (" + former.error().message() + ")") +
                                                       ": move it away");
  }
  if (::rename(fresh.c_str(), overlay.c_str()) != 0) return ckpt::system_error(errno, overlay);
  return {};
}

ckpt::Result<std::string> read_whole(ckpt::CheckpointReader& reader, std::size_t object, std::uint64_t limit_bytes,
                                     const std::string& what) {
  const std::uint64_t size_bytes = reader.objects()[object].size_bytes;
  if (size_bytes > limit_bytes)
    return make_error(ckpt::Code::limit, what + " is larger than " + std::to_string(limit_bytes >> 20) + " MiB");
  std::string bytes(size_bytes, '\0');
  CKPT_TRY(reader.read(object, 0, {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()}));
  return bytes;
}

}  // namespace

ckpt::Result<std::string> read_device_state(const ckpt::CheckpointId& id, ckpt::CheckpointReader& reader) {
  const auto& objects = reader.objects();
  for (std::size_t i = 0; i < objects.size(); ++i)
    if (objects[i].object_class == ckpt::ObjectClass::device_state)
      return read_whole(reader, i, device_state_limit_bytes, "the device state");
  return make_error(ckpt::Code::corrupt, ckpt::to_string(id) + " holds no device state");
}

ckpt::Result<std::string> read_disk(ckpt::CheckpointReader& reader, const std::string& name,
                                    std::uint64_t limit_bytes) {
  const auto& objects = reader.objects();
  for (std::size_t i = 0; i < objects.size(); ++i)
    if (objects[i].object_class == ckpt::ObjectClass::disk && objects[i].name == name)
      return read_whole(reader, i, limit_bytes, "disk '" + name + "'");
  return make_error(ckpt::Code::not_found, "there is no disk '" + name + "'");
}

ckpt::Result<std::vector<std::string>> agent_command(const RestoreState& state, const Json& begun) {
  CKPT_ASSIGN(std::string agent, find_restore_agent());
  std::vector<std::string> argv = {agent,
                                   "--store",
                                   text_of(begun, "store"),
                                   "--checkpoint",
                                   state.source,
                                   "--socket",
                                   text_of(begun, "directory") + "/agent.sock",
                                   "--status",
                                   state.agent_status,
                                   "--mode",
                                   state.mode,
                                   "--working-set",
                                   text_of(begun, "working_set")};
  if (state.bandwidth_bytes_s != 0) argv.insert(argv.end(), {"--bandwidth", std::to_string(state.bandwidth_bytes_s)});
  return argv;
}

ckpt::Result<std::vector<std::string>> disk_server_command(const RestoreState& state, const Json& begun,
                                                           const std::string& disk) {
  CKPT_ASSIGN(std::string plugin, find_nbdkit_plugin());
  return std::vector<std::string>{
      "nbdkit", "-f", "-r", plugin, "store=" + text_of(begun, "store"), "checkpoint=" + state.source, "disk=" + disk};
}

ckpt::Status make_overlay(const std::string& qemu_img, const std::string& overlay, const std::string& socket,
                          std::uint64_t size_bytes) {
  // open-timeout: nbdkit may have died and be started again.
  Json backing = {{"driver", "raw"},
                  {"file",
                   {{"driver", "nbd"},
                    {"server", {{"type", "unix"}, {"path", socket}}},
                    {"open-timeout", disk_server_start_s},
                    {"reconnect-delay", disk_server_wait_s}}}};
  CKPT_ASSIGN(auto output, run_helper({qemu_img, "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b",
                                       "json:" + dump(backing), overlay, std::to_string(size_bytes)},
                                      qemu_img_limit_ms));
  if (::chmod(overlay.c_str(), 0600) != 0) return ckpt::system_error(errno, overlay);
  return {};
}

ckpt::Status remake_overlay(const std::string& qemu_img, const std::string& overlay, const std::string& socket,
                            std::uint64_t size_bytes) {
  const std::string fresh = overlay + ".new";
  ::unlink(fresh.c_str());
  auto made = make_overlay(qemu_img, fresh, socket, size_bytes);
  if (made.ok()) made = put_in_place(fresh, overlay);
  if (!made.ok()) ::unlink(fresh.c_str());
  return made;
}

}  // namespace ckptd
