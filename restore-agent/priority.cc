// SPDX-License-Identifier: LGPL-2.1-or-later
#include "priority.h"

#include <linux/sched/types.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace agent {

namespace {

constexpr int hurry_nice = -10;
constexpr int last_nice = 10;
constexpr unsigned long long short_slice_ns = 100'000;

void set_nice(int value) { (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), value); }

// Since Linux 6.12 a thread may say how long it wants to run without being interrupted. Who says a short time is let in
// at once when it wakes up, and makes room soon for who wakes up while it runs.
void ask_for_short_slices() {
  sched_attr attr{};
  attr.size = sizeof(attr);
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0) return;
  attr.sched_runtime = short_slice_ns;
  (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

}  // namespace

void hurry_this_thread() {
  set_nice(getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())) + hurry_nice);
  ask_for_short_slices();
}

void put_this_thread_last(bool last) {
  static const int usual_nice = getpriority(PRIO_PROCESS, 0);
  set_nice(usual_nice + (last ? last_nice : 0));
  ask_for_short_slices();
}

void sharpen_sleeps_of_this_thread() { (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); }

}  // namespace agent
