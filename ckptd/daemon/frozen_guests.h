// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which guests may be frozen, and why: known before one is, and until it is known to be thawed, whoever ends meanwhile
// (doc/consistency.md, Application-consistent points). From any thread.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "common/frozen_note.h"
#include "common/paths.h"

namespace ckptd {

class FrozenGuests {
public:
  struct Guest {
    FrozenNote note;
    bool held = false;    // somebody is at work with it, and thaws it
    std::string trouble;  // why it could not be thawed yet
  };

  explicit FrozenGuests(RunDir run_dir) : run_dir_(std::move(run_dir)) {}

  // What an earlier ckptd has left; what cannot be read is said, and left alone.
  ckpt::Status load();

  // From now on it may be frozen; whoever holds it thaws it, or lets it go. Errors: busy: it may be already; those of
  // writing it down: then it must not be frozen.
  ckpt::Status hold(const std::string& machine, const FrozenNote& note);
  // It comes up frozen; the thawer thaws it.
  ckpt::Status expect(const std::string& machine, const FrozenNote& note);
  // Of what the note of that time says; another guest may have the name by now.
  // Not thawed: the thawer's from now on.
  void let_go(const std::string& machine, std::uint64_t since_ns, const std::string& trouble);
  // Thawed, or gone.
  void thawed(const std::string& machine, std::uint64_t since_ns);

  std::optional<Guest> find(const std::string& machine) const;
  std::map<std::string, Guest> all() const;
  // Goes up by one when a guest may be frozen, and when it is no longer: odd while it may be.
  std::uint64_t changes(const std::string& machine) const;
  // Until the thawer has something to do, or so long.
  void wait(int time_limit_ms);

private:
  ckpt::Status add(const std::string& machine, const Guest& guest);  // mutex_ is held
  std::string path_of(const std::string& machine) const { return run_dir_.frozen() + "/" + machine + ".json"; }

  const RunDir run_dir_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Guest> guests_;
  std::map<std::string, std::uint64_t> changes_;
  bool news_ = false;
};

}  // namespace ckptd
