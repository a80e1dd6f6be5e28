// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/frozen_guests.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "common/text.h"
#include "daemon/log.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::string_view suffix = ".json";

}  // namespace

ckpt::Status FrozenGuests::load() {
  CKPT_TRY(make_directories(run_dir_.frozen()));
  std::lock_guard lock(mutex_);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir_.frozen(), error)) {
    const std::string file = entry.path().filename();
    if (!file.ends_with(suffix)) continue;
    const std::string machine = file.substr(0, file.size() - suffix.size());
    if (!check_machine_name(machine).ok()) continue;
    auto json = read_json_file(entry.path());
    auto note = json.ok() ? frozen_note_from_json(*json) : ckpt::Result<FrozenNote>(json.error());
    if (!note.ok()) {
      log_line("left alone: " + entry.path().string() + ": " + note.error().message());
      continue;
    }
    guests_[machine] = {.note = note.take()};
    ++changes_[machine];
  }
  return {};
}

ckpt::Status FrozenGuests::add(const std::string& machine, const Guest& guest) {
  CKPT_TRY(make_directories(run_dir_.frozen()));
  CKPT_TRY(write_json_file(path_of(machine), to_json(guest.note), os::Durable::no));
  if (!guests_.contains(machine)) ++changes_[machine];
  guests_[machine] = guest;
  news_ = true;
  changed_.notify_all();
  return {};
}

ckpt::Status FrozenGuests::hold(const std::string& machine, const FrozenNote& note) {
  std::lock_guard lock(mutex_);
  if (auto known = guests_.find(machine); known != guests_.end())
    return make_error(Code::busy, "the file systems of '" + machine + "' may be frozen already, " +
                                      known->second.note.reason +
                                      (known->second.trouble.empty() ? "" : ": " + known->second.trouble));
  return add(machine, {.note = note, .held = true});
}

ckpt::Status FrozenGuests::expect(const std::string& machine, const FrozenNote& note) {
  std::lock_guard lock(mutex_);
  return add(machine, {.note = note});
}

void FrozenGuests::let_go(const std::string& machine, std::uint64_t since_ns, const std::string& trouble) {
  std::lock_guard lock(mutex_);
  auto known = guests_.find(machine);
  if (known == guests_.end() || known->second.note.since_ns != since_ns) return;
  known->second.held = false;
  known->second.trouble = trouble;
  news_ = true;
  changed_.notify_all();
}

void FrozenGuests::thawed(const std::string& machine, std::uint64_t since_ns) {
  std::lock_guard lock(mutex_);
  auto known = guests_.find(machine);
  if (known == guests_.end() || known->second.note.since_ns != since_ns) return;
  guests_.erase(known);
  ++changes_[machine];
  ::unlink(path_of(machine).c_str());
}

std::optional<FrozenGuests::Guest> FrozenGuests::find(const std::string& machine) const {
  std::lock_guard lock(mutex_);
  auto known = guests_.find(machine);
  return known == guests_.end() ? std::nullopt : std::optional(known->second);
}

std::map<std::string, FrozenGuests::Guest> FrozenGuests::all() const {
  std::lock_guard lock(mutex_);
  return guests_;
}

std::uint64_t FrozenGuests::changes(const std::string& machine) const {
  std::lock_guard lock(mutex_);
  auto known = changes_.find(machine);
  return known == changes_.end() ? 0 : known->second;
}

void FrozenGuests::wait(int time_limit_ms) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(time_limit_ms), [this] { return news_; });
  news_ = false;
}

}  // namespace ckptd
