// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/restore_words.h"

#include "common/qmp.h"

namespace ckptd {

ckpt::Result<bool> guest_has_run(const RestoreState& state, int stop_fd) {
  CKPT_ASSIGN(Qmp qmp, Qmp::connect(state.qmp, Qmp::usual_limit_ms, stop_fd));
  CKPT_ASSIGN(Json said, qmp.execute("query-status"));
  // Others, as io-error or shutdown, are where only a guest that ran comes to.
  std::string status = text_of(said, "status");
  return status != "paused" && status != "prelaunch" && status != "inmigrate";
}

ckpt::Result<bool> memory_is_local(const RestoreState& state, int stop_fd) {
  CKPT_ASSIGN(Qmp qmp, Qmp::connect(state.qmp, Qmp::usual_limit_ms, stop_fd));
  CKPT_ASSIGN(Json said, qmp.execute("query-checkpoint-restore"));
  return text_of(said, "state") == "done";
}

}  // namespace ckptd
