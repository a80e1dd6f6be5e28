// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

namespace ckptd {

// One line to stderr, with the time; whole lines also from several threads.
void log_line(const std::string& text);

}  // namespace ckptd
