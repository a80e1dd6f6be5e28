// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The helper that freezes and thaws a guest (common/guest_freeze.h), at its parent's end. When this ends, however that
// is, the helper thaws the guest by itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/frozen_note.h"
#include "common/line_channel.h"
#include "common/process.h"

namespace ckptd {

class GuestHelper {
public:
  enum class Task { hold, thaw };

  // `limit_ms`: for freezing, and for being frozen. What it is asked ends with unavailable once `stop_fd` can be read.
  static ckpt::Result<GuestHelper> start(const FrozenNote& note, Task task, const std::string& libvirt_uri,
                                         std::int64_t limit_ms, int stop_fd);

  // Its next line, an error's too. Errors: unavailable: it has ended, or does not answer in time and is ended: it hangs
  // with whom it asks.
  ckpt::Result<Json> answer(std::int64_t limit_ms);
  // The guest is to be thawed now.
  void tell() { (void)channel_->write_line("{}"); }
  // It has said nothing, and lives: since its last answer the guest is what it was.
  bool silent() const;

private:
  GuestHelper() = default;

  ProcessId process_;
  int stop_fd_ = -1;
  std::unique_ptr<LineChannel> channel_;
};

}  // namespace ckptd
