// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/records.h"

#include <unistd.h>

#include <filesystem>

#include "common/paths.h"
#include "common/text.h"

namespace ckptd {

namespace {

constexpr std::string_view suffix = ".json";
constexpr std::uint64_t version = 1;

ckpt::Result<Record> read_record(const std::string& path) {
  CKPT_ASSIGN(Json json, read_json_file(path));
  // Those of 0.1.0 name no version.
  if (number_of(json, "version", version) != version)
    return ckpt::make_error(ckpt::Code::version, path + " is of a newer ckptd: take that one, or remove the file");
  Record record;
  if (auto config = json.find("config"); config != json.end() && config->is_object()) record.config = *config;
  CKPT_ASSIGN(record.policy, policy_from_json(json.value("policy", Json::object()), Policy{}));
  record.is_protected = json.value("protected", Json(true)) == Json(true);
  record.start_anew = flag_of(json, "start_anew");
  record.domain = text_of(json, "domain");
  return record;
}

}  // namespace

ckpt::Result<std::map<std::string, Record>> Records::load(std::vector<std::string>& complaints) const {
  CKPT_TRY(make_directories(directory_));
  std::map<std::string, Record> records;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    std::string file = entry.path().filename();
    if (!file.ends_with(suffix)) continue;
    std::string machine = file.substr(0, file.size() - suffix.size());
    if (!check_machine_name(machine).ok()) continue;
    auto record = read_record(entry.path());
    if (record.ok())
      records.emplace(machine, record.take());
    else
      complaints.push_back(record.error().message());
  }
  if (error) return ckpt::system_error(error.value(), directory_);
  return records;
}

ckpt::Status Records::save(const std::string& machine, const Record& record) const {
  return write_json_file(directory_ + "/" + machine + std::string(suffix),
                         {{"version", version},
                          {"config", record.config},
                          {"policy", policy_to_json(record.policy)},
                          {"protected", record.is_protected},
                          {"start_anew", record.start_anew},
                          {"domain", record.domain}},
                         os::Durable::yes);
}

void Records::remove(const std::string& machine) const {
  ::unlink((directory_ + "/" + machine + std::string(suffix)).c_str());
}

}  // namespace ckptd
