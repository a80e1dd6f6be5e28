// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whatever a state file holds, it is refused or understood, and what is understood is written and read again the same.
#include <cstdio>
#include <cstdlib>

#include "common/frozen_note.h"
#include "common/process.h"
#include "common/restore_state.h"
#include "common/text.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ckptd;
  auto json = parse_object({reinterpret_cast<const char*>(data), size});
  if (!json.ok()) return 0;
  // An agent's status and a grant of a base are read field by field.
  (void)text_of(*json, "state");
  (void)number_of(*json, "pages_total");
  ProcessId process = process_from_json(*json);
  require(!process.known() || process.pid > 1);
  if (auto note = frozen_note_from_json(*json); note.ok()) {
    auto same = frozen_note_from_json(parse_object(dump(to_json(*note)), 1 << 24).take());
    require(same.ok() && dump(to_json(*same)) == dump(to_json(*note)));
  }
  auto state = restore_from_json(*json);
  if (!state.ok()) return 0;
  require(check_machine_name(state->name).ok() && state->disks.size() <= 256);
  auto again = restore_from_json(parse_object(dump(to_json(*state)), 1 << 24).take());
  require(again.ok() && dump(to_json(*again)) == dump(to_json(*state)));
  return 0;
}
