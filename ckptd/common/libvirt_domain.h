// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A domain of libvirt's that runs and has a protection element, as libvirt's hook leaves it for ckptd and for the
// launcher of its QEMU: RUN_DIR/libvirt/UUID.json (doc/libvirt.md).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/json.h"
#include "common/paths.h"
#include "common/policy.h"
#include "os/unix_socket.h"

namespace ckptd {

inline constexpr std::size_t domain_xml_limit_bytes = 256 << 10;

struct LibvirtDomain {
  std::string uuid;  // 8-4-4-4-12 lower-case hexadecimal digits
  std::string name;
  std::string machine;           // its name in ckptd
  std::string error;             // why it is not protected; empty: the policy counts
  bool required = false;         // it must not run unprotected, as far as that is known when it starts
  Json policy = Json::object();  // what the element says; what it does not is ckptd's to choose
  std::optional<os::User> user;  // of its QEMU; none: ckptd's own, or root
  std::string xml;

  bool operator==(const LibvirtDomain&) const = default;
};

bool is_uuid(std::string_view text);

// Null: ckptd's own, or root.
Json user_to_json(const std::optional<os::User>& user);
ckpt::Result<std::optional<os::User>> user_from_json(const Json& json);

Json to_json(const LibvirtDomain& domain);
// Errors: version (of a newer hook), invalid.
ckpt::Result<LibvirtDomain> libvirt_domain_from_json(const Json& json);

// What a machine's record and its checkpoints hold of its domain.
Json config_of(const LibvirtDomain& domain);

}  // namespace ckptd
