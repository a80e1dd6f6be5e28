// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a restore is made of, whoever begins it: the agent, a server and an overlay for each disk.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/store.h"
#include "common/json.h"
#include "common/restore_state.h"

namespace ckptd {

// What QEMU loads. Errors: limit (larger than 64 MiB), corrupt (there is none, too).
ckpt::Result<std::string> read_device_state(const ckpt::CheckpointId& id, ckpt::CheckpointReader& reader);

// All that a disk holds. Errors: not_found, limit (more than `limit_bytes`), those of reading.
ckpt::Result<std::string> read_disk(ckpt::CheckpointReader& reader, const std::string& name, std::uint64_t limit_bytes);

// `begun`: as restore_begin answers (doc/control_protocol.md).
ckpt::Result<std::vector<std::string>> agent_command(const RestoreState& state, const Json& begun);
ckpt::Result<std::vector<std::string>> disk_server_command(const RestoreState& state, const Json& begun,
                                                           const std::string& disk);

// Images of disks end so. UEFI's variables are a disk of the checkpoint, too, and none of libvirt's: with this for a
// target they are copied to a file, whole, before the machine runs.
inline constexpr std::string_view overlay_suffix = ".qcow2", nvram_suffix = ".fd", nvram_target = "nvram";
inline constexpr std::uint64_t nvram_limit_bytes = 64 << 20;

inline constexpr int disk_server_start_s = 30;
// A guest whose disk server has died waits for the next one, as good as for ever.
inline constexpr int disk_server_wait_s = 31'536'000;

// A qcow2 image of this size on what the server at `socket` has; mode 0600.
ckpt::Status make_overlay(const std::string& qemu_img, const std::string& overlay, const std::string& socket,
                          std::uint64_t size_bytes);
// The same, in place of an empty file, or of such an overlay that nobody has written to. Errors: refused: somebody has.
ckpt::Status remake_overlay(const std::string& qemu_img, const std::string& overlay, const std::string& socket,
                            std::uint64_t size_bytes);

}  // namespace ckptd
