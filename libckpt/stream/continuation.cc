// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/continuation.h"

#include <algorithm>

namespace ckpt {
namespace {

Result<std::uint64_t> largest_used_number(const Store& store, const std::string& machine) {
  for (const MachineInfo& info : store.machines())
    if (info.name == machine) return info.last_number;
  return make_error(Code::not_found, "the store does not know machine " + machine);
}

Result<std::uint64_t> newest_of_instance(const Store& store, const std::string& machine,
                                         const std::array<std::uint8_t, 16>& instance) {
  CKPT_ASSIGN(std::vector<CheckpointInfo> kept, store.checkpoints(machine));
  std::uint64_t newest = 0;
  for (const CheckpointInfo& info : kept)
    if (info.instance == instance) newest = std::max(newest, info.id.number);
  return newest;
}

}  // namespace

Result<Continuation> decide_continuation(const Store& store, const std::string& machine, const wire::Hello& hello,
                                         const CheckpointId& base, bool start_anew) {
  CKPT_ASSIGN(std::uint64_t used, largest_used_number(store, machine));
  CKPT_ASSIGN(std::uint64_t newest, newest_of_instance(store, machine, hello.instance));

  Continuation decision;
  // Past the client's numbers too: it may have used them with a store that has since been replaced by an older copy.
  decision.next_epoch = std::max({used, hello.acked_epoch, hello.closed_epoch, base.number}) + 1;
  if (decision.next_epoch >= wire::epoch_limit)
    return make_error(Code::limit,
                      "machine " + machine + " has used up its epoch numbers; forget the machine and add it again");

  if (newest != 0) {
    decision.last_durable = newest;
    if (newest == hello.closed_epoch || newest == hello.acked_epoch) decision.parent = {machine, newest};
  } else if (base.number != 0 && store.checkpoint(base).ok()) {
    decision.last_durable = base.number;
    // A closed epoch with the base's number would be taken for safe by the client.
    if (hello.acked_epoch == 0 && hello.closed_epoch != base.number) decision.parent = base;
  }
  if (start_anew) decision.parent = {};
  if (decision.parent.number != 0) decision.mode = wire::WelcomeMode::continue_;
  return decision;
}

}  // namespace ckpt
