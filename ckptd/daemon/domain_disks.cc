// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/domain_disks.h"

#include <algorithm>

#include "common/paths.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

// The bridge gives up before, when libvirtd does not answer.
constexpr std::int64_t bridge_limit_ms = 30'000;

ckpt::Result<Json> ask_bridge(const RestoreState& state, const std::string& verb) {
  CKPT_ASSIGN(std::string bridge, find_libvirt_bridge());
  std::vector<std::string> argv = {bridge, "--connect", state.libvirt_uri, verb};
  if (state.bandwidth_bytes_s != 0) argv.insert(argv.end(), {"--bandwidth", std::to_string(state.bandwidth_bytes_s)});
  argv.insert(argv.end(), {"--", state.domain});
  for (const auto& disk : state.disks) argv.push_back(disk.target.empty() ? disk.overlay : disk.target);
  auto text = run_helper(argv, bridge_limit_ms);
  // It may be another time, whatever it was.
  if (!text.ok()) return make_error(Code::unavailable, text.error().message());
  CKPT_ASSIGN(Json answer, parse_object(*text));
  return check_answer(std::move(answer));
}

}  // namespace

ckpt::Result<bool> define_domain_disks(const RestoreState& state, int) {
  if (state.disks.empty()) return true;
  auto answer = ask_bridge(state, "define-disks");
  if (!answer.ok()) return answer.error();
  return true;
}

ckpt::Result<std::vector<RestoredDisk>> pull_domain_disks(const RestoreState& state, int) {
  auto disks = state.disks;
  if (disks.empty()) return disks;
  CKPT_ASSIGN(Json answer, ask_bridge(state, "pull-disks"));
  const Json found = answer.value("disks", Json::array());
  if (!found.is_array() || found.size() != disks.size())
    return make_error(Code::protocol, "libvirt-bridge has answered for other disks");
  for (std::size_t i = 0; i < disks.size(); ++i) {
    disks[i].local = flag_of(found[i], "local");
    disks[i].streaming = !disks[i].local;
    // After a revert libvirt's own overlay is above the snapshot's image, and in the end without it.
    if (disks[i].local) disks[i].overlay = text_of(found[i], "file", disks[i].overlay);
  }
  return disks;
}

}  // namespace ckptd
