// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The disks of a restored machine: overlays on what the store serves, or whole local images.
#include <signal.h>
#include <unistd.h>

#include <iostream>

#include "common/clock.h"
#include "common/restore_parts.h"
#include "common/text.h"
#include "ctl/restore.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

ckpt::Status Restore::place_disks() {
  for (const Json& object : member_of(begun_, "objects")) {
    if (text_of(object, "class") != "disk") continue;
    std::string name = text_of(object, "name");
    const QemuDisk* disk = nullptr;
    for (const auto& candidate : command_->disks())
      if (candidate.name == name) disk = &candidate;
    if (!disk)
      return make_error(Code::refused,
                        state_.source + " has a disk '" + name +
                            "' that the command line lacks: give the machine's full command line after '--'");
    CKPT_TRY(make_overlay(*disk, number_of(object, "size_bytes")));
  }
  for (const auto& disk : command_->disks()) {
    bool placed = disk.read_only;
    for (const auto& restored : state_.disks) placed = placed || restored.name == disk.name;
    if (!placed && !options_.force)
      return make_error(Code::refused,
                        "the command line has a disk '" + disk.name + "' that " + state_.source +
                            " lacks: its content would not belong to the machine; --force attaches it as it is");
    if (!placed) has_foreign_disk_ = true;
  }
  for (const auto& disk : state_.disks) CKPT_TRY(command_->replace_disk(disk.name, disk.overlay));
  return {};
}

ckpt::Result<std::string> Restore::image_path(const QemuDisk& disk) {
  std::string directory = options_.disk_dir;
  if (directory.empty()) {
    auto slash = disk.file.rfind('/');
    bool plain = !disk.file.empty() && disk.file.find(':') == std::string::npos;
    if (!plain)
      return make_error(Code::invalid, "disk '" + disk.name + "' was at '" + disk.file +
                                           "': say with --disk-dir where its new image goes");
    directory = slash == std::string::npos ? "." : slash == 0 ? "/" : disk.file.substr(0, slash);
    if (directory[0] != '/') directory = cwd_ + "/" + directory;
  }
  auto found = absolute_path(directory);
  if (!found.ok())
    return make_error(found.error().code, "directory for disk '" + disk.name + "': " + found.error().message() +
                                              ": choose another with --disk-dir");
  std::string file_name = state_.name + "." + disk.name + "." + std::to_string(number_) + ".qcow2";
  for (char& c : file_name)
    if (c == '/' || c == ',') c = '_';
  std::string path = *found + "/" + file_name;
  if (::access(path.c_str(), F_OK) != 0) return path;
  if (!options_.replace)
    return make_error(Code::exists, path +
                                        " is there already (an earlier restore of this point?): --replace moves it "
                                        "aside, or choose another --disk-dir");
  std::string aside = path + ".old-" + std::to_string(wall_clock_ns() / 1'000'000);
  if (::rename(path.c_str(), aside.c_str()) != 0) return ckpt::system_error(errno, aside);
  std::cerr << "ckptctl: " << path << " is now " << aside << "\n";
  return path;
}

std::string Restore::qemu_img() const {
  std::string beside = qemu_.substr(0, qemu_.rfind('/')) + "/qemu-img";
  return ::access(beside.c_str(), X_OK) == 0 ? beside : "qemu-img";
}

ckpt::Status Restore::make_overlay(const QemuDisk& disk, std::uint64_t size_bytes) {
  RestoredDisk restored;
  restored.name = disk.name;
  CKPT_ASSIGN(restored.overlay, image_path(disk));
  CKPT_TRY(ckptd::make_overlay(qemu_img(), restored.overlay, server_socket(state_.disks.size()), size_bytes));
  made_files_.push_back(restored.overlay);
  CKPT_ASSIGN(restored.server_argv, disk_server_command(state_, begun_, disk.name));
  state_.disks.push_back(std::move(restored));
  return {};
}

// In the place of the overlay comes a whole image.
ckpt::Status Restore::fetch_disks() {
  for (std::size_t i = 0; i < state_.disks.size(); ++i) {
    auto& disk = state_.disks[i];
    std::vector<std::string> argv = {
        qemu_img(),
        "convert",
        "-p",
        "-W",
        "-O",
        "qcow2",
        "--image-opts",
        "driver=raw,file.driver=nbd,file.server.type=unix,file.open-timeout=" + std::to_string(disk_server_start_s) +
            ",file.server.path=" + double_commas(server_socket(i)),
        disk.overlay};
    if (state_.bandwidth_bytes_s) argv.insert(argv.begin() + 2, {"-r", std::to_string(state_.bandwidth_bytes_s)});
    auto begun_ms = monotonic_ms();
    auto watch = [&](const std::string& output) {
      auto open = output.rfind('('), close = output.rfind('/');
      if (open == std::string::npos || close == std::string::npos || close < open) return;
      if (monotonic_ms() - begun_ms > 1000)
        show_progress("disk " + disk.name + ": " + output.substr(open + 1, close - open - 1) + " %");
    };
    auto fetched = run_helper(argv, no_time_limit, watch);
    end_progress();
    if (!fetched.ok())
      return make_error(fetched.error().code, "disk " + disk.name + " cannot be fetched: " + fetched.error().message());
    terminate(disk.server, SIGTERM);
    disk.server = {};
    disk.local = true;
  }
  if (!state_.disks.empty()) mark("disks");
  return {};
}

}  // namespace ckptd
