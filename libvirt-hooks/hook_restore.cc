// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hook_restore.h"

#include <unistd.h>

#include <algorithm>

#include "common/control_client.h"
#include "common/restore_state.h"
#include "domain_files.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::Json;

namespace {

constexpr std::uint64_t version = 1;

void give_up(const ckptd::RunDir& run_dir, const std::string& machine, const std::string& token,
             const std::string& reason) {
  (void)ckptd::ask_ckptd(run_dir.control_socket(),
                         {{"verb", "restore_abandon"}, {"as", machine}, {"token", token}, {"reason", reason}});
}

ckpt::Result<std::vector<PlacedDisk>> placed_disks(const ckptd::RunDir& run_dir, const Image& image,
                                                   const Json& answer) {
  const Json made = answer.value("disks", Json::array());
  ckptd::RestoreState state;
  std::vector<PlacedDisk> placed;
  for (std::size_t i = 0; made.is_array() && i < made.size(); ++i) {
    auto disk = std::find_if(image.disks.begin(), image.disks.end(),
                             [&](const ImageDisk& at) { return at.name == ckptd::text_of(made[i], "name"); });
    if (disk == image.disks.end()) return make_error(Code::protocol, "ckptd has answered for another disk");
    placed.push_back({disk->target, ckptd::text_of(made[i], "overlay"),
                      state.server_socket(run_dir.restore(image.domain.machine), i)});
  }
  if (placed.size() != image.disks.size()) return make_error(Code::protocol, "ckptd has answered for fewer disks");
  return placed;
}

ckpt::Result<std::vector<PlacedDisk>> note(const ckptd::RunDir& run_dir, const Image& image, const Json& answer) {
  CKPT_ASSIGN(auto placed, placed_disks(run_dir, image, answer));
  Json disks = Json::array();
  for (const auto& disk : placed) disks.push_back({{"target", disk.target}, {"overlay", disk.file}});
  CKPT_TRY(ckptd::make_libvirt_directory(run_dir));
  CKPT_TRY(ckptd::write_json_file(run_dir.libvirt_prepared(image.domain.uuid),
                                  {{"version", version},
                                   {"machine", image.domain.machine},
                                   {"token", ckptd::text_of(answer, "token")},
                                   {"disks", disks}},
                                  os::Durable::no));
  return placed;
}

// The disks are those that were made; so it is no start from the domain's own definition.
ckpt::Result<bool> is_prepared(const Json& prepared, const std::string& xml) {
  CKPT_ASSIGN(auto disks, disks_of(xml));
  for (const Json& disk : prepared.value("disks", Json::array())) {
    auto found = disks.find(ckptd::text_of(disk, "target"));
    if (found == disks.end() || found->second.file != ckptd::text_of(disk, "overlay")) return false;
  }
  return true;
}

}  // namespace

ckpt::Result<std::vector<PlacedDisk>> prepare_restore(const ckptd::RunDir& run_dir, const Image& image, bool revert) {
  Json disks = Json::array();
  for (const auto& disk : image.disks)
    disks.push_back({{"name", disk.name}, {"target", disk.target}, {"file", disk.file}});
  const std::string& machine = image.domain.machine;
  CKPT_ASSIGN(Json answer, ckptd::ask_ckptd(run_dir.control_socket(), {{"verb", "domain_restore_begin"},
                                                                       {"machine", image.machine},
                                                                       {"point", std::to_string(image.checkpoint)},
                                                                       {"as", machine},
                                                                       {"uuid", image.domain.uuid},
                                                                       {"clone_of", image.clone_of},
                                                                       {"run_dir", run_dir.path},
                                                                       {"disks", disks},
                                                                       {"revert", revert}}));
  auto placed = note(run_dir, image, answer);
  if (!placed.ok()) give_up(run_dir, machine, ckptd::text_of(answer, "token"), placed.error().message());
  return placed;
}

ckpt::Result<std::string> begin_restore(const ckptd::RunDir& run_dir, const std::string& xml) {
  CKPT_ASSIGN(auto image, parse_image(xml));
  if (!image) return std::string();
  // What it can make of the XML is known before anything is prepared.
  CKPT_TRY(with_disks(xml, {}));
  CKPT_ASSIGN(auto placed, prepare_restore(run_dir, *image, false));
  return with_disks(xml, placed);
}

void drop_restore(const ckptd::RunDir& run_dir, const std::string& uuid) {
  ::unlink(run_dir.libvirt_restore(uuid).c_str());
}

ckpt::Status start_restore(const ckptd::RunDir& run_dir, const DomainXml& domain, const std::string& xml) {
  drop_restore(run_dir, domain.uuid);
  const std::string path = run_dir.libvirt_prepared(domain.uuid);
  if (::access(path.c_str(), F_OK) != 0) return {};
  auto prepared = ckptd::read_json_file(path);
  ::unlink(path.c_str());
  if (!prepared.ok() || ckptd::number_of(*prepared, "version") != version)
    return make_error(Code::invalid, path + " cannot be read: restore, or start, again");
  const std::string machine = ckptd::text_of(*prepared, "machine"), token = ckptd::text_of(*prepared, "token");
  CKPT_ASSIGN(bool is_this, is_prepared(*prepared, xml));
  if (!is_this || !domain.protection || !domain.protection->error.empty()) {
    give_up(run_dir, machine, token, "libvirt has started the domain from its definition");
    return {};
  }
  auto answer = ckptd::ask_ckptd(run_dir.control_socket(), {{"verb", "domain_restore_start"},
                                                            {"as", machine},
                                                            {"token", token},
                                                            {"user", ckptd::user_to_json(domain.protection->user)}});
  if (!answer.ok())
    return make_error(answer.error().code, "the restore that was prepared does not go on: " + answer.error().message() +
                                               ": restore, or start, again");
  return put_restore(run_dir, *domain.protection,
                     {{"version", version}, {"machine", machine}, {"base", ckptd::text_of(*answer, "base")}});
}

}  // namespace libvirt_hooks
