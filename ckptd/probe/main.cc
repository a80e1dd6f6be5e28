// SPDX-License-Identifier: LGPL-2.1-or-later
//
// restore-probe DIRECTORY: asks the machine that is being restored there. Started by ckptctl restore --probe.
#include <signal.h>

#include <cstdio>

#include "probe/prober.h"

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    std::fputs("usage: restore-probe DIRECTORY\nStarted by 'ckptctl restore --probe'.\n", stderr);
    return 1;
  }
  ::signal(SIGPIPE, SIG_IGN);
  auto status = ckptd::Prober(argv[1]).run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "restore-probe: %s\n", status.error().message().c_str());
  return 1;
}
