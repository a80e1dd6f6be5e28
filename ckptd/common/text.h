// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How people write and read durations, times and sizes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/result.h"

namespace ckptd {

// "50ms", "1s", "2.5s", "10m", "1h", "7d"; a bare number means seconds.
ckpt::Result<std::uint64_t> parse_duration_ms(std::string_view text);
std::string format_duration_ms(std::uint64_t ms);  // "950 ms", "3.2 s", "5 m 10 s", "2 h 3 m", "4 d 1 h"

// "10M", "1.5G", bytes without a unit; powers of 1024.
ckpt::Result<std::uint64_t> parse_size(std::string_view text);
std::string format_size(std::uint64_t bytes);  // "512 B", "3.4 MiB"
std::string format_mib(std::uint64_t bytes);   // "3.4", always MiB

// "2026-03-01T12:00:00[.5][Z]", a space for the T allowed, seconds optional; local time without Z.
ckpt::Result<std::uint64_t> parse_time_ns(std::string_view text);
std::string format_time(std::uint64_t wall_clock_ns);  // local, milliseconds

std::string uuid_text(const std::string& digits);                 // of 32 digits
std::string uuid_text(const std::array<std::uint8_t, 16>& uuid);  // 8-4-4-4-12 hexadecimal digits
std::string hex(const std::array<std::uint8_t, 16>& bytes);
std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, const std::string& separator);
bool all_digits(std::string_view text);
// What it begins with: "10.0.13" of "10.0.13 (Debian 1:10.0.13+ds-0)".
std::string version_numbers(std::string_view text);

// The store's rule: 1 to 64 of [A-Za-z0-9._-], not starting with '.' or '-'.
ckpt::Status check_machine_name(std::string_view name);

}  // namespace ckptd
