// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/control_client.h"
#include "common/json.h"
#include "common/paths.h"

namespace ckptd {

// What every command of ckptctl has.
struct Context {
  RunDir run_dir;
  bool json = false;
  mutable bool json_printed = false;

  // One request on a connection of its own.
  ckpt::Result<Json> request(const Json& request, const std::function<bool(const Json&)>& more = {}) const;
  // The answer on stdout, without "ok", and with the error in it when there is one: a run prints one document.
  void print_json(Json answer, const ckpt::Status& status = {}) const;
  // The same on one line, of which a run may print any number.
  void print_json_line(Json answer, const ckpt::Status& status = {}) const;
};

// "NAME@POINT"; the point is empty when there is no '@'.
struct Target {
  std::string machine;
  std::string point;
};
Target parse_target(const std::string& text);

// Lines up columns, the first to the left and the others to the right.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

// Replaces one line on stderr, when that is a terminal; otherwise prints it as a line of its own.
void show_progress(const std::string& line);
void end_progress();

// Says what is waited for when it takes longer than a second, once a second.
class SlowProgress {
public:
  SlowProgress();
  ~SlowProgress() { end_progress(); }
  SlowProgress(const SlowProgress&) = delete;
  SlowProgress& operator=(const SlowProgress&) = delete;
  void show(const std::function<std::string()>& line);

private:
  std::int64_t next_ms_;
};

}  // namespace ckptd
