// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The checkpoint that a restored machine's first epoch may build upon. A QEMU says in HELLO what it was restored from;
// were that believed, whoever reaches a machine's socket could have another machine's memory put below its own, and
// the numbers of a machine that was forgotten come again. So each restore gets a secret, and the claim counts only with
// it: once, for the machine it was given to, and while the checkpoint is still the one that it was.
#pragma once

#include <string>

#include "ckpt/store.h"
#include "ckpt/stream.h"
#include "common/paths.h"

namespace ckptd {

// What QEMU is to give as its base (doc/stream_format.md). Durable before it returns; takes the place of what was
// granted to the machine before.
ckpt::Result<std::string> grant_base(const RunDir& run_dir, const std::string& machine,
                                     const ckpt::CheckpointInfo& source);
// The same, later on.
ckpt::Result<std::string> granted_base(const RunDir& run_dir, const std::string& machine);
// The checkpoint that hello.base stands for; from then on it stands for it to this QEMU only. An error says why it
// stands for none.
ckpt::Result<ckpt::CheckpointId> claim_base(const RunDir& run_dir, const ckpt::Store& store, const std::string& machine,
                                            const ckpt::StreamHello& hello);
void revoke_base(const RunDir& run_dir, const std::string& machine);

}  // namespace ckptd
