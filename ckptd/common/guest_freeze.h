// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A guest that is frozen, held by a process of its own: the helper. It thaws the guest when it is told to, when its
// parent ends, however that is, and when nobody has told it in time; and goes on trying until the guest is thawed or
// gone. So a guest stays frozen only as long as somebody looks after it.
//
// Lines of JSON, over one socket that is the helper's stdin and stdout:
//   helper: {"ok":true,"frozen":N}, or an error with "asked": true when the guest may be frozen all the same
//   parent: any line: thaw now
//   helper: {"late":true} before it thaws because nobody has told it; then {"ok":true,"thawed":N}, or an error: it has
//           ended, and the next try is its parent's, unless the machine has gone (not found)
// Told to thaw only, it begins with the last of these.
#pragma once

#include <cstdint>

#include "ckpt/result.h"

namespace ckptd {

// How that is done, by whoever has the guest's ear.
class GuestFreezer {
public:
  virtual ~GuestFreezer() = default;
  // How many file systems. `asked`: the guest may be frozen from now on, whatever is returned.
  virtual ckpt::Result<std::uint64_t> freeze(bool& asked) = 0;
  // How many file systems; 0: none was frozen. Errors: not_found: the machine has gone.
  virtual ckpt::Result<std::uint64_t> thaw() = 0;
};

// The helper's life; its exit status. `limit_ms`: a little later it thaws what it has frozen by itself.
int hold_frozen(GuestFreezer& freezer, std::int64_t limit_ms);
int thaw_guest(GuestFreezer& freezer);

}  // namespace ckptd
