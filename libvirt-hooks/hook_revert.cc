// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hook_revert.h"

#include <algorithm>
#include <filesystem>

#include "hook_restore.h"
#include "os/file.h"
#include "snapshot_points.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr const char* libvirt_snapshots = "/var/lib/libvirt/qemu/snapshot/";
constexpr std::string_view current_mark = "<active>1</active>";
constexpr std::size_t snapshot_limit_bytes = 4 << 20;

bool is_this(const SnapshotPoint& point, const std::map<std::string, Disk>& disks) {
  return !point.disks.empty() && std::all_of(point.disks.begin(), point.disks.end(), [&](const ImageDisk& disk) {
    auto found = disks.find(disk.target);
    return found != disks.end() && found->second.file == disk.file;
  });
}

// libvirtd would crash at the end of the revert. Its own files say it, for it cannot be asked here; without them there
// is nothing to say.
ckpt::Status check_current(const std::string& domain) {
  bool any = false;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(libvirt_snapshots + domain, error)) {
    auto text = os::read_file(entry.path(), snapshot_limit_bytes);
    any |= text.ok();
    if (text.ok() && text->find(current_mark) != std::string::npos) return {};
  }
  if (!any) return {};
  return make_error(Code::refused, "it has no current snapshot, and libvirtd would crash: 'virsh snapshot-current " +
                                       domain + " SNAPSHOT', then revert again");
}

}  // namespace

ckpt::Status begin_revert(const ckptd::RunDir& run_dir, const DomainXml& domain, const std::string& xml) {
  // Its disks would be served by a restore.
  if (xml.find(run_dir.restores() + "/") == std::string::npos) return {};
  auto points = read_points(run_dir.libvirt_snapshots(domain.uuid));
  if (!points.ok() && points.error().code == Code::not_found) return {};
  if (!points.ok()) return points.error();
  CKPT_ASSIGN(auto disks, disks_of(xml));
  auto point = std::find_if(points->points.begin(), points->points.end(),
                            [&](const auto& at) { return is_this(at.second, disks); });
  if (point == points->points.end()) return {};
  if (!domain.protection || !domain.protection->error.empty())
    return make_error(Code::refused,
                      "its snapshot is not protected" + (domain.protection ? ": " + domain.protection->error : ""));
  CKPT_TRY(check_current(domain.name));
  CKPT_TRY(prepare_restore(run_dir,
                           {.domain = *domain.protection,
                            .machine = points->machine,
                            .checkpoint = point->first,
                            .disks = point->second.disks},
                           true));
  return {};
}

}  // namespace libvirt_hooks
