// SPDX-License-Identifier: LGPL-2.1-or-later
//
// That a guest may be frozen, written down before it is, so that whoever comes next thaws it: RUN_DIR/frozen/NAME.json
// (doc/control_protocol.md, Files).
#pragma once

#include <cstdint>
#include <string>

#include "common/json.h"
#include "common/process.h"

namespace ckptd {

struct FrozenNote {
  std::string domain;  // libvirt's UUID of it, or:
  std::string socket;  // of its guest agent's channel,
  ProcessId qemu;      // and the process that this is of: when it has gone, so has the guest
  std::string reason;  // what it was frozen for
  std::uint64_t since_ns = 0;
};

Json to_json(const FrozenNote& note);
// Errors: version, invalid.
ckpt::Result<FrozenNote> frozen_note_from_json(const Json& json);

}  // namespace ckptd
