// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/text.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

// Digits with an optional fraction; `rest` gets what follows it.
bool parse_decimal(std::string_view text, double& value, std::string_view& rest) {
  if (text.empty() || !all_digits(text.substr(0, 1))) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || value < 0 || value > 1e15) return false;
  rest = text.substr(static_cast<std::size_t>(end - text.data()));
  return true;
}

std::string decimal(double value, const char* unit) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%.1f%s", value, unit);
  return buffer;
}

}  // namespace

ckpt::Result<std::uint64_t> parse_duration_ms(std::string_view text) {
  double value = 0;
  std::string_view unit;
  double factor = 0;
  if (parse_decimal(text, value, unit)) {
    if (unit == "ms")
      factor = 1;
    else if (unit.empty() || unit == "s")
      factor = 1000;
    else if (unit == "m" || unit == "min")
      factor = 60'000;
    else if (unit == "h")
      factor = 3'600'000;
    else if (unit == "d")
      factor = 86'400'000;
  }
  if (factor == 0 || value * factor > 1e15)
    return make_error(Code::invalid, "'" + std::string(text) + "' is not a duration: write 50ms, 1s, 10m, 2h or 7d");
  return static_cast<std::uint64_t>(value * factor + 0.5);
}

std::string format_duration_ms(std::uint64_t ms) {
  auto pair = [](std::uint64_t a, const char* unit_a, std::uint64_t b, const char* unit_b) {
    return std::to_string(a) + unit_a + (b ? " " + std::to_string(b) + unit_b : "");
  };
  std::uint64_t s = ms / 1000;
  if (ms < 1000) return std::to_string(ms) + " ms";
  if (s < 60) return ms % 1000 ? decimal(static_cast<double>(ms) / 1000, " s") : std::to_string(s) + " s";
  if (s < 3600) return pair(s / 60, " m", s % 60, " s");
  if (s < 86'400) return pair(s / 3600, " h", s % 3600 / 60, " m");
  return pair(s / 86'400, " d", s % 86'400 / 3600, " h");
}

ckpt::Result<std::uint64_t> parse_size(std::string_view text) {
  double value = 0;
  std::string_view unit;
  if (parse_decimal(text, value, unit) && unit.size() <= 1) {
    double factor = 1;
    std::string_view units = "KMGT";
    auto at = unit.empty() ? std::string_view::npos : units.find(static_cast<char>(std::toupper(unit[0])));
    if (unit.empty() || at != std::string_view::npos) {
      for (std::size_t i = 0; !unit.empty() && i <= at; ++i) factor *= 1024;
      if (value * factor < 1e18) return static_cast<std::uint64_t>(value * factor);
    }
  }
  return make_error(Code::invalid, "'" + std::string(text) + "' is not a size: write 512K, 10M or 1.5G");
}

std::string format_size(std::uint64_t bytes) {
  const char* units[] = {" KiB", " MiB", " GiB", " TiB", " PiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1023.95 && unit < 4; ++unit) value /= 1024;
  return decimal(value, units[unit]);
}

std::string format_mib(std::uint64_t bytes) { return decimal(static_cast<double>(bytes) / (1 << 20), ""); }

ckpt::Result<std::uint64_t> parse_time_ns(std::string_view text) {
  std::tm fields{};
  int used = 0;
  std::string copy(text);
  int count = std::sscanf(copy.c_str(), "%4d-%2d-%2d%*1[T ]%2d:%2d%n", &fields.tm_year, &fields.tm_mon, &fields.tm_mday,
                          &fields.tm_hour, &fields.tm_min, &used);
  auto bad = [&] {
    return make_error(Code::invalid, "'" + copy + "' is not a time: write 2026-03-01T12:00:00, with Z for UTC");
  };
  if (count != 5 || used == 0) return bad();
  std::string_view rest = text.substr(static_cast<std::size_t>(used));
  double seconds = 0;
  if (!rest.empty() && rest[0] == ':' && (!parse_decimal(rest.substr(1), seconds, rest) || seconds >= 61)) return bad();
  bool utc = rest == "Z";
  if (!rest.empty() && !utc) return bad();
  if (fields.tm_mon < 1 || fields.tm_mon > 12 || fields.tm_mday < 1 || fields.tm_mday > 31 || fields.tm_hour > 24 ||
      fields.tm_min > 59 || fields.tm_year < 1970)
    return bad();
  fields.tm_year -= 1900;
  fields.tm_mon -= 1;
  fields.tm_isdst = -1;
  std::time_t whole = utc ? ::timegm(&fields) : ::mktime(&fields);
  if (whole < 0) return bad();
  return static_cast<std::uint64_t>(whole) * 1'000'000'000 + static_cast<std::uint64_t>(seconds * 1e9);
}

std::string format_time(std::uint64_t wall_clock_ns) {
  std::time_t whole = static_cast<std::time_t>(wall_clock_ns / 1'000'000'000);
  std::tm fields{};
  ::localtime_r(&whole, &fields);
  char day[32], all[48];
  std::strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &fields);
  std::snprintf(all, sizeof(all), "%s.%03u", day, static_cast<unsigned>(wall_clock_ns / 1'000'000 % 1000));
  return all;
}

std::string hex(const std::array<std::uint8_t, 16>& bytes) {
  std::string text;
  char pair[3];
  for (auto byte : bytes) {
    std::snprintf(pair, sizeof(pair), "%02x", byte);
    text += pair;
  }
  return text;
}

std::string uuid_text(const std::string& digits) {
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i == 8 || i == 12 || i == 16 || i == 20) text += '-';
    text += digits[i];
  }
  return text;
}

std::string uuid_text(const std::array<std::uint8_t, 16>& uuid) { return uuid_text(hex(uuid)); }

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::string join(const std::vector<std::string>& parts, const std::string& separator) {
  std::string text;
  for (const auto& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string version_numbers(std::string_view text) {
  return std::string(text.substr(0, text.find_first_not_of("0123456789.")));
}

ckpt::Status check_machine_name(std::string_view name) {
  auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (name.empty() || name.size() > 64 || name[0] == '.' || name[0] == '-' ||
      !std::all_of(name.begin(), name.end(), good))
    return make_error(Code::invalid,
                      "machine name '" + std::string(name.substr(0, 80)) +
                          "': use 1 to 64 of letters, digits, '.', '_' and '-', not starting with '.' or '-'");
  return {};
}

}  // namespace ckptd
