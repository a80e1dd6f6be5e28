// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A QEMU command line: which disks it has, what each is called in the checkpoint stream, and how to put others in their
// place.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ckpt/result.h"
#include "common/json.h"
#include "common/qemu_options.h"

namespace ckptd {

struct QemuDisk {
  std::string name;  // as in the checkpoint stream: block backend's name, else the device's id or path
  std::string file;
  std::string format;  // empty: QEMU probes
  bool read_only = false;
};

// What makes a QEMU a machine of the ckptd that listens at `socket`: object-add's arguments. `base`: what it is
// restored from, when that is a checkpoint of the store.
Json stream_object(const std::string& socket, const std::string& base = {});
// What makes a QEMU that waits for device state have its memory from the agent that listens at `agent_socket`.
Json restore_object(const std::string& agent_socket);
// An object as the value of -object.
std::string object_option(const Json& object);

class QemuCommand {
public:
  // Understands argv (argv[0] is the program). Disks that would get no stable name get one: argv() has it. Refuses,
  // naming cause and cure, what could not be built again: options that hide disks elsewhere or start from another
  // state.
  static ckpt::Result<QemuCommand> parse(const std::vector<std::string>& argv);

  const std::vector<QemuDisk>& disks() const { return disks_; }
  std::vector<std::string> argv() const;

  // Makes `overlay` (a qcow2 image) the image of the disk. Errors: not_found; refused when its block graph is not
  // understood.
  ckpt::Status replace_disk(const std::string& name, const std::string& overlay);
  // A VM generation ID device gets a new ID: the guest learns that it is a copy.
  void renew_generation_id();
  void add(const std::string& option, const std::string& value = {});
  // A monitor that waits for nobody, at a UNIX socket.
  void add_qmp(const std::string& socket);
  // Removes options without a value, such as -S.
  void remove_flag(const std::string& option);
  bool has(const std::string& option) const;
  // The UNIX socket of the guest agent's channel, when it has one.
  std::optional<std::string> guest_agent_socket() const;

private:
  struct Argument {
    std::string option;                  // "-drive", without a second dash
    std::optional<std::string> value;    // as given
    std::optional<QemuOptions> options;  // understood ones
    bool dropped = false;
  };
  struct Place {  // where disks_[i] is said
    std::size_t argument = 0;
    bool blockdev = false;
  };

  ckpt::Status read_arguments(const std::vector<std::string>& argv);
  ckpt::Status find_drives();
  ckpt::Status find_block_devices();
  ckpt::Status add_block_device(const std::string& node, const std::string& name);
  std::optional<std::size_t> find_node(const std::string& node) const;
  ckpt::Status replace_blockdev(const QemuDisk& disk, std::size_t argument, const std::string& overlay);

  std::string program_;
  std::vector<Argument> arguments_;
  std::vector<QemuDisk> disks_;
  std::vector<Place> places_;
};

}  // namespace ckptd
