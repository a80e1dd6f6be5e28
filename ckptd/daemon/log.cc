// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/log.h"

#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"

namespace ckptd {

void log_line(const std::string& text) {
  std::string line = format_time(wall_clock_ns()) + " " + text;
  for (char& c : line)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  line += '\n';
  (void)!::write(2, line.data(), line.size());
}

}  // namespace ckptd
