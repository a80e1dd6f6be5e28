// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/guest_freeze.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/json.h"
#include "common/line_channel.h"

namespace ckptd {

using ckpt::Code;

namespace {

constexpr std::size_t word_limit_bytes = 4096;
// Its parent, which has the same limit, is to be first.
constexpr std::int64_t grace_ms = 2'000;
constexpr std::int64_t backoff_ms = 250, backoff_largest_ms = 4'000;

// The other end of stdin and stdout.
class Parent {
public:
  Parent() : channel_(os::Fd(0), word_limit_bytes) {}

  bool tell(const Json& said) { return channel_.write_line(dump(said)).ok(); }
  // False: it has not said anything in time.
  bool wait_for_word(std::int64_t limit_ms) {
    auto said = channel_.read_line(limit_ms);
    if (said.ok() || said.error().code != Code::unavailable) return true;
    return false;
  }
  bool gone() const { return channel_.peer_closed(); }

private:
  LineChannel channel_;
};

int thaw_until_done(GuestFreezer& freezer, Parent& parent, bool alone) {
  for (std::int64_t wait_ms = backoff_ms;; wait_ms = std::min(2 * wait_ms, backoff_largest_ms)) {
    auto thawed = freezer.thaw();
    if (thawed.ok() || thawed.error().code == Code::not_found) {
      parent.tell(thawed.ok() ? Json{{"ok", true}, {"thawed", *thawed}} : error_answer(thawed.error()));
      return 0;
    }
    alone = alone || parent.gone();
    if (!alone && parent.tell(error_answer(thawed.error()))) return 1;
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
  }
}

// What ends its parent, from a terminal or by a service manager, may be sent to it too: it ends when it is done.
void ignore_ends() {
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
}

}  // namespace

int hold_frozen(GuestFreezer& freezer, std::int64_t limit_ms) {
  ignore_ends();
  Parent parent;
  bool asked = false;
  auto frozen = freezer.freeze(asked);
  Json said = frozen.ok() ? Json{{"ok", true}, {"frozen", *frozen}} : error_answer(frozen.error());
  if (!frozen.ok()) said["asked"] = asked;
  bool told = parent.tell(said);
  if (!frozen.ok() && !asked) return 1;
  bool late = told && !parent.wait_for_word(limit_ms + grace_ms);
  // First: who still counts on it must not take what was captured from here on for captured while frozen.
  if (late) parent.tell({{"late", true}});
  return thaw_until_done(freezer, parent, !told || late);
}

int thaw_guest(GuestFreezer& freezer) {
  ignore_ends();
  Parent parent;
  return thaw_until_done(freezer, parent, false);
}

}  // namespace ckptd
