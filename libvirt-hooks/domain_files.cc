// SPDX-License-Identifier: LGPL-2.1-or-later
#include "domain_files.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>

#include "os/file.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;

namespace {

bool parse_id(std::string_view text, std::uint32_t& id) {
  if (text.starts_with('+')) text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  return error == std::errc() && end == text.data() + text.size() && id != static_cast<std::uint32_t>(-1);
}

// As libvirt writes the label: "+UID:+GID" for sure numbers, otherwise names come first.
ckpt::Result<std::optional<os::User>> user_of(const std::string& label) {
  if (label.empty()) return std::optional<os::User>();
  auto colon = label.find(':');
  std::string user = label.substr(0, colon), group = colon == std::string::npos ? "" : label.substr(colon + 1);
  os::User found;
  const passwd* known_user = user.starts_with('+') ? nullptr : ::getpwnam(user.c_str());
  const struct group* known_group = group.starts_with('+') ? nullptr : ::getgrnam(group.c_str());
  if (known_user) found.uid = known_user->pw_uid;
  if (known_group) found.gid = known_group->gr_gid;
  if ((!known_user && !parse_id(user, found.uid)) || (!known_group && !parse_id(group, found.gid)))
    return make_error(Code::invalid,
                      "libvirt runs it as '" + label.substr(0, 80) + "', which is no user and group here");
  return std::optional(found);
}

// Read by the launcher, which is QEMU's user already.
ckpt::Status let_read(const std::string& path, const std::optional<os::User>& user) {
  if (!user || user->uid == 0) return {};
  if (::chown(path.c_str(), static_cast<uid_t>(-1), user->gid) != 0 || ::chmod(path.c_str(), 0640) != 0)
    return ckpt::system_error(errno, path);
  return {};
}

ckpt::Status put(const std::string& path, const ckptd::Json& json, const std::optional<os::User>& user) {
  // Another name for each writer: hook and bridge may come together.
  std::string written = path + "." + std::to_string(::getpid());
  CKPT_TRY(os::write_file(written, ckptd::dump_pretty(json) + "\n"));
  auto readable = let_read(written, user);
  if (readable.ok() && ::rename(written.c_str(), path.c_str()) == 0) return {};
  auto failed = readable.ok() ? ckpt::Status(ckpt::system_error(errno, path)) : readable;
  ::unlink(written.c_str());
  return failed;
}

}  // namespace

ckpt::Status put_domain(const ckptd::RunDir& run_dir, DomainXml& domain) {
  if (!domain.protection) {
    drop_domain(run_dir, domain.uuid);
    return {};
  }
  CKPT_TRY(ckptd::make_libvirt_directory(run_dir));
  ckptd::LibvirtDomain& record = *domain.protection;
  auto user = user_of(domain.user);
  if (user.ok())
    record.user = *user;
  else if (record.error.empty())
    record.error = user.error().message();
  return put(run_dir.libvirt_domain(domain.uuid), to_json(record), record.user);
}

ckpt::Status put_restore(const ckptd::RunDir& run_dir, const ckptd::LibvirtDomain& domain, const ckptd::Json& restore) {
  return put(run_dir.libvirt_restore(domain.uuid), restore, domain.user);
}

void drop_domain(const ckptd::RunDir& run_dir, const std::string& uuid) {
  ::unlink(run_dir.libvirt_domain(uuid).c_str());
}

}  // namespace libvirt_hooks
