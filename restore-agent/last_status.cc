// SPDX-License-Identifier: LGPL-2.1-or-later
#include "last_status.h"

#include "os/file.h"
#include "progress.h"

namespace agent {

namespace {

constexpr std::size_t status_limit = 1 << 20;

template <typename T>
bool says(const nlohmann::json& status, const char* field, const T& value) {
  auto at = status.find(field);
  return at != status.end() && *at == value;
}

}  // namespace

LastStatus read_last_status(const Options& options) {
  auto bytes = os::read_file(options.status, status_limit);
  if (!bytes.ok()) return {};
  auto status = nlohmann::json::parse(bytes->begin(), bytes->end(), nullptr, false);
  if (!status.is_object() || !says(status, "checkpoint", ckpt::to_string(options.checkpoint))) return {};
  if (says(status, "state", "done") || says(status, "state", "gone")) return {};
  LastStatus last;
  auto total = status.find("pages_total");
  // One that has only waited for the store, in a dead one's place, hands that on.
  last.had_memory = says(status, "taken_over", true) || (total != status.end() && total->is_number() && *total != 0);
  if (auto service = status.find("service"); service != status.end()) last.service = *service;
  return last;
}

}  // namespace agent
