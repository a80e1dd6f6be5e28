// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What libvirt's domain XML says of a domain's protection (doc/libvirt.md). The text is hostile: whoever may define a
// domain writes it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ckpt/result.h"
#include "common/libvirt_domain.h"

namespace libvirt_hooks {

inline constexpr std::string_view protection_namespace = "urn:x-ckpt:domain:1";
// The programs that stand between libvirt and the patched QEMU are called this and an architecture.
inline constexpr std::string_view launcher_prefix = "ckpt-qemu-system-";

struct DomainXml {
  std::string uuid, name;
  // The user that libvirt runs QEMU as, "+UID:+GID" or by name; empty: the XML does not say.
  std::string user;
  // Nothing: it has no protection element. One that cannot be carried out has its error.
  std::optional<ckptd::LibvirtDomain> protection;
};

// Errors: invalid, limit: this is no domain's XML, and nothing is known of it.
ckpt::Result<DomainXml> parse_domain_xml(std::string_view xml);

bool is_launcher(std::string_view emulator);

// The machine that an element of this domain names; `given`: its attribute, or empty.
ckpt::Result<std::string> machine_of(const std::string& given, const std::string& domain);
// What the element's attributes say together: a policy for ckptd. Values are written as for ckptctl.
ckpt::Result<ckptd::Json> policy_of(const std::string& interval, const std::string& retention,
                                    const std::string& consistent);

}  // namespace libvirt_hooks
