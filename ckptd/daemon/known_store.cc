// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/known_store.h"

#include "ckpt/env.h"
#include "common/json.h"
#include "common/paths.h"
#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t file_name_limit_bytes = 255;
constexpr const char* cure =
    ": is its file system mounted? Mount it and start ckptd again; to go on without what it holds, start ckptd once "
    "with --new-store";

// STATE_DIR/stores/%2Fsrv%2Fckpt.json is of /srv/ckpt.
ckpt::Result<std::string> record_path(const std::string& state_dir, const std::string& path) {
  std::string name;
  for (char c : path) name += c == '/' ? "%2F" : c == '%' ? "%25" : std::string(1, c);
  name += ".json";
  // The name it has while it is written is a little longer.
  if (name.size() + 16 > file_name_limit_bytes)
    return make_error(Code::limit, "the path of the store is too long: " + path);
  return state_dir + "/stores/" + name;
}

// Empty: none was served there.
ckpt::Result<std::string> known_uuid(const std::string& record) {
  auto json = read_json_file(record);
  if (!json.ok() && json.error().code == Code::not_found) return std::string();
  if (!json.ok()) return json.error();
  if (number_of(*json, "version") != 1) return make_error(Code::version, record + " is of another version of ckptd");
  CKPT_ASSIGN(std::string uuid, required_string(*json, "uuid"));
  // As the first ckptd wrote it.
  return uuid.size() == 32 ? uuid_text(uuid) : uuid;
}

}  // namespace

ckpt::Result<std::unique_ptr<ckpt::Store>> open_known_store(const std::string& state_dir, const std::string& path,
                                                            bool replace) {
  auto made = make_directories(state_dir + "/stores");
  if (!made.ok()) return make_error(made.error().code, made.error().message() + ": choose another with --state-dir");
  CKPT_ASSIGN(std::string record, record_path(state_dir, path));
  CKPT_ASSIGN(std::string known, known_uuid(record));
  ckpt::StoreOptions options;
  options.create = known.empty() || replace;
  if (options.create) CKPT_TRY(make_directories(path));
  auto opened = ckpt::Store::open(ckpt::Env::system(), path, options);
  if (!opened.ok() && opened.error().code == Code::not_found && !options.create)
    return make_error(Code::not_found, "the store " + known + ", which was at " + path + ", is not there" + cure);
  if (!opened.ok()) return opened.error();
  std::string found = uuid_text((*opened)->stats().uuid);
  if (found == known) return opened;
  if (!options.create)
    return make_error(Code::refused, "at " + path + " is the store " + found + ", where " + known + " was" + cure);
  CKPT_TRY(write_json_file(record, {{"version", 1}, {"store", path}, {"uuid", found}}, os::Durable::yes));
  return opened;
}

}  // namespace ckptd
