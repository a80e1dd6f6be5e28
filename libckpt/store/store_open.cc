// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Making a store, opening it, and seeing what another process has added.
#include "store/store_open.h"

#include <algorithm>

#include "store/local_backend.h"
#include "store/page_spill.h"
#include "store/store_impl.h"

namespace ckpt {

namespace {

constexpr std::string_view format_prefix = "ckpt-store ";
constexpr std::size_t max_format_bytes = 128;

std::string uuid_text(const StoreUuid& uuid) {
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%02x", uuid[i]);
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits;
  }
  return text;
}

Result<StoreUuid> parse_uuid(std::string text) {
  std::erase(text, '-');
  StoreUuid uuid{};
  if (text.size() != 2 * uuid.size() || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return make_error(Code::corrupt, "FORMAT: not a UUID");
  }
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    uuid[i] = static_cast<std::uint8_t>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
  }
  return uuid;
}

// "ckpt-store 1 UUID\n". The version can be read whatever follows it.
Result<StoreUuid> parse_format(std::string text) {
  if (!text.starts_with(format_prefix)) return make_error(Code::corrupt, "FORMAT: this is not a ckpt store");
  text.erase(0, format_prefix.size());
  std::size_t space = text.find(' ');
  std::string version = text.substr(0, space);
  if (version.empty() || version.find_first_not_of("0123456789") != std::string::npos || space == std::string::npos) {
    return make_error(Code::corrupt, "FORMAT: no version");
  }
  if (version != "1") return make_error(Code::version, "FORMAT: the store is of version " + version + ", newer than 1");
  if (!text.ends_with('\n')) return make_error(Code::corrupt, "FORMAT: cut short");
  return parse_uuid(text.substr(space + 1, text.size() - space - 2));
}

Result<StoreUuid> read_format(Backend& backend) {
  CKPT_ASSIGN(auto blob, backend.open("FORMAT"));
  Bytes bytes(max_format_bytes);
  CKPT_ASSIGN(std::size_t n, blob->read(0, bytes));
  return parse_format(std::string(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n)));
}

// FORMAT comes last: without it there is no store, and what is left of an attempt is made anew.
Result<StoreUuid> make_store(Env& env, Backend& backend, const std::string& path) {
  StoreUuid uuid;
  CKPT_TRY(env.random(uuid));
  CKPT_TRY(env.make_directory(path + "/segments"));
  CKPT_TRY(JournalFile::create(backend, uuid));
  CKPT_ASSIGN(auto blob, backend.create("FORMAT.new"));
  std::string text = std::string(format_prefix) + "1 " + uuid_text(uuid) + "\n";
  CKPT_TRY(blob->append_synced(as_bytes(text)));
  bool not_done = true;
  CKPT_TRY(backend.replace("FORMAT.new", "FORMAT", not_done));
  return uuid;
}

// Only what an interrupted creation leaves, or mkfs.
bool is_fresh(const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return name == "lost+found" || name == "LOCK" || name == "segments" || name == "journal" || name == "FORMAT.new";
  });
}

Result<std::vector<std::string>> list_or_make(Env& env, const std::string& path, bool create) {
  auto names = env.list(path);
  if (names || names.error().code != Code::not_found) return names;
  if (!create) return make_error(Code::not_found, "there is no store at " + path);
  CKPT_TRY(env.make_directory(path));
  std::size_t slash = path.find_last_of('/');
  std::string parent = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
  CKPT_TRY(env.sync_directory(parent));
  return std::vector<std::string>();
}

Status load_catalog(StoreCore& core) {
  std::lock_guard commit(core.commit_mutex);
  Catalog catalog;
  CKPT_TRY(core.journal.load(!core.options.read_only,
                             [&catalog](JournalRecord&& record) { return catalog.apply(std::move(record)); }));
  for (const auto& [domain, secret] : catalog.domains()) core.keys.add(domain, secret);
  std::unique_lock guard(core.catalog_mutex);
  core.catalog = std::move(catalog);
  return {};
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(Env& env, const std::string& given_path, const StoreOptions& options) {
  std::string path = given_path;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  CKPT_ASSIGN(auto names, list_or_make(env, path, options.create && !options.read_only));
  bool exists = std::find(names.begin(), names.end(), "FORMAT") != names.end();
  if (!exists && (!options.create || options.read_only || !is_fresh(names))) {
    return make_error(Code::not_found, "there is no store at " + path);
  }
  std::unique_ptr<File> lock;
  if (!options.read_only) {
    CKPT_ASSIGN(lock, env.lock(path + "/LOCK"));
  }
  std::unique_ptr<Backend> backend = make_local_backend(env, path);
  auto uuid = read_format(*backend);
  if (!uuid && !exists && uuid.error().code == Code::not_found) uuid = make_store(env, *backend, path);
  if (!uuid) {
    Error error = uuid.error();
    error.context = path + ": " + error.context;
    return error;
  }
  auto core = std::make_shared<StoreCore>(env, std::move(lock), std::move(backend), *uuid, options);
  CKPT_TRY(load_store(*core));
  return std::unique_ptr<Store>(std::make_unique<StoreImpl>(std::move(core)));
}

Status load_store(StoreCore& core) {
  CKPT_TRY(load_catalog(core));
  core.segments.reserve_ids(core.catalog.largest_segment());
  if (!core.options.read_only && !core.journal.damage().empty()) {
    core.options.read_only = true;
    core.segments.set_read_only();
  }
  CKPT_TRY(core.segments.load(core.catalog.dropped()));
  if (core.options.read_only) return {};
  auto leftovers = core.backend->list("");
  if (!leftovers) return leftovers.error();
  for (const std::string& name : *leftovers) {
    if (name == "journal.new" || name == "FORMAT.new" || name == "distrusted.new" || name.starts_with(spill_prefix)) {
      CKPT_TRY(core.backend->remove(name));
    }
  }
  core.keep_reserve();
  return {};
}

Status refresh_store(StoreCore& core) {
  if (!core.options.read_only || core.lock) return {};
  bool again = false;
  {
    std::lock_guard commit(core.commit_mutex);
    CKPT_TRY(core.journal.load_more(again, [&core](JournalRecord&& record) {
      if (auto* domain = std::get_if<DomainRecord>(&record)) core.keys.add(domain->domain, domain->secret);
      std::unique_lock guard(core.catalog_mutex);
      return core.catalog.apply(std::move(record));
    }));
  }
  if (again) CKPT_TRY(load_catalog(core));
  return core.segments.load({});
}

}  // namespace ckpt
