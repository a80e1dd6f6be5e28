// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/libvirt_domain.h"

#include <algorithm>
#include <limits>

#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::uint64_t version = 1;
constexpr std::uint64_t id_limit = std::numeric_limits<std::uint32_t>::max();  // (uid_t)-1 is nobody's

}  // namespace

Json user_to_json(const std::optional<os::User>& user) {
  return user ? Json{{"uid", user->uid}, {"gid", user->gid}} : Json();
}

ckpt::Result<std::optional<os::User>> user_from_json(const Json& json) {
  if (json.is_null()) return std::optional<os::User>();
  CKPT_ASSIGN(auto uid, number_field(json, "uid", id_limit));
  CKPT_ASSIGN(auto gid, number_field(json, "gid", id_limit));
  if (uid >= id_limit || gid >= id_limit) return make_error(Code::invalid, "field 'user' names no user and group");
  return std::optional(os::User{static_cast<uid_t>(uid), static_cast<gid_t>(gid)});
}

bool is_uuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    bool digit = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
    if (dash ? text[i] != '-' : !digit) return false;
  }
  return true;
}

Json to_json(const LibvirtDomain& domain) {
  return {{"version", version},      {"uuid", domain.uuid},
          {"name", domain.name},     {"machine", domain.machine},
          {"error", domain.error},   {"required", domain.required},
          {"policy", domain.policy}, {"user", user_to_json(domain.user)},
          {"xml", domain.xml}};
}

ckpt::Result<LibvirtDomain> libvirt_domain_from_json(const Json& json) {
  if (number_of(json, "version") != version)
    return make_error(Code::version,
                      "written by a newer hook than this program knows: install the same version of both");
  LibvirtDomain domain;
  CKPT_ASSIGN(domain.uuid, required_string(json, "uuid"));
  if (!is_uuid(domain.uuid)) return make_error(Code::invalid, "field 'uuid' is no UUID");
  CKPT_ASSIGN(domain.name, required_string(json, "name"));
  CKPT_ASSIGN(domain.machine, string_field(json, "machine"));
  CKPT_ASSIGN(domain.error, string_field(json, "error"));
  domain.required = flag_of(json, "required");
  if (const Json& policy = member_of(json, "policy"); policy.is_object()) domain.policy = policy;
  CKPT_ASSIGN(domain.user, user_from_json(member_of(json, "user")));
  CKPT_ASSIGN(domain.xml, string_field(json, "xml"));
  if (domain.xml.size() > domain_xml_limit_bytes) return make_error(Code::limit, "field 'xml' is larger than 256 KiB");
  if (!domain.error.empty()) return domain;
  CKPT_TRY(check_machine_name(domain.machine));
  if (auto policy = policy_from_json(domain.policy, Policy{}); !policy.ok()) return policy.error();
  return domain;
}

Json config_of(const LibvirtDomain& domain) {
  return {{"version", 1}, {"domain", {{"uuid", domain.uuid}, {"name", domain.name}, {"xml", domain.xml}}}};
}

}  // namespace ckptd
