// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ctl/context.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "common/clock.h"

namespace ckptd {

namespace {

// Columns of a UTF-8 text, as far as ckptctl's own words go.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool progress_shown = false;
constexpr std::int64_t progress_interval_ms = 1000;

Json document_of(Json answer, const ckpt::Status& status) {
  answer.erase("ok");
  answer.erase("more");
  if (!status.ok()) answer.update(error_answer(status.error()));
  return answer;
}

}  // namespace

ckpt::Result<Json> Context::request(const Json& request, const std::function<bool(const Json&)>& more) const {
  return ask_ckptd(run_dir.control_socket(), request, more);
}

void Context::print_json(Json answer, const ckpt::Status& status) const {
  std::cout << dump_pretty(document_of(std::move(answer), status)) << "\n" << std::flush;
  json_printed = true;
}

void Context::print_json_line(Json answer, const ckpt::Status& status) const {
  std::cout << dump(document_of(std::move(answer), status)) << "\n" << std::flush;
  json_printed = true;
}

Target parse_target(const std::string& text) {
  auto at = text.find('@');
  if (at == std::string::npos) return {text, ""};
  return {text.substr(0, at), text.substr(at + 1)};
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      std::string space(widths[i] - width(row[i]), ' ');
      line += (i ? "  " : "") + (i ? space + row[i] : row[i] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

void show_progress(const std::string& line) {
  bool terminal = ::isatty(2);
  std::cerr << (terminal ? "\r\033[K" : "") << line << (terminal ? "" : "\n") << std::flush;
  progress_shown = terminal;
}

void end_progress() {
  if (progress_shown) std::cerr << "\n";
  progress_shown = false;
}

SlowProgress::SlowProgress() : next_ms_(monotonic_ms() + progress_interval_ms) {}

void SlowProgress::show(const std::function<std::string()>& line) {
  if (monotonic_ms() < next_ms_) return;
  next_ms_ = monotonic_ms() + progress_interval_ms;
  show_progress(line());
}

}  // namespace ckptd
