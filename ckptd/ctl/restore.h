// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/qemu_command.h"
#include "common/qmp.h"
#include "common/restore_state.h"
#include "ctl/commands.h"

namespace ckptd {

// One restore from the pinned checkpoint to the running guest. What it has started is ended again when it fails.
class Restore {
public:
  Restore(const Context& context, const RestoreOptions& options) : context_(context), options_(options) {}

  ckpt::Status run();

private:
  struct Phase {
    std::string name;
    std::int64_t at_ms;
  };

  ckpt::Status begin();
  ckpt::Status build();
  ckpt::Status read_command();
  ckpt::Status place_disks();
  ckpt::Result<std::string> image_path(const QemuDisk& disk);
  ckpt::Status make_overlay(const QemuDisk& disk, std::uint64_t size_bytes);
  std::string qemu_img() const;
  std::string server_socket(std::size_t disk) const { return state_.server_socket(directory_, disk); }
  // Full mode: nothing is missing any more when the guest starts.
  ckpt::Status fetch_disks();
  ckpt::Status fetch_memory();
  // Starts what outlives this process; `process` is it.
  ckpt::Status start(const std::vector<std::string>& argv, SpawnOptions options, ProcessId& process);
  ckpt::Status start_agent();
  ckpt::Status start_servers();
  ckpt::Status start_probe();
  ckpt::Status start_qemu();
  ckpt::Status connect_qemu();
  ckpt::Status check_qemu();
  ckpt::Status load_devices();
  ckpt::Status let_run();
  void name_vcpus();
  void set_guest_clock();
  ckpt::Status ask_guest_agent();
  bool is_frozen();
  ckpt::Status wait_for_answers();
  void give_up(const std::string& reason);
  Json report_json() const;
  void report_text() const;
  ckpt::Status report(ckpt::Status status);
  ckpt::Error died(const std::string& what) const;
  void mark(const std::string& phase);
  // Tells ckptd, which keeps the record.
  ckpt::Status save();

  const Context& context_;
  const RestoreOptions& options_;

  Json begun_;  // ckptd's answer
  std::uint64_t number_ = 0;
  std::string token_;
  std::string directory_;
  RestoreState state_;
  std::optional<QemuCommand> command_;
  std::string qemu_, cwd_;
  bool has_foreign_disk_ = false;  // attached with --force
  std::optional<Qmp> qmp_;
  std::vector<std::string> made_files_;
  std::vector<Phase> phases_;
  ProcessId probe_;
  Json ttr_ms_;  // null: no probe, or no answer
  bool clock_set_ = false;
  std::int64_t begun_ms_ = 0;
};

}  // namespace ckptd
