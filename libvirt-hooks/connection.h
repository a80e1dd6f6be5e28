// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's client library, as far as the bridge needs it. Nothing else of ckpt links that: libvirtd may hang.
#pragma once

#include <libvirt/libvirt.h>

#include <memory>
#include <string>
#include <vector>

#include "ckpt/result.h"

namespace libvirt_hooks {

struct CloseConnection {
  void operator()(virConnect* connection) const { virConnectClose(connection); }
};
struct FreeDomain {
  void operator()(virDomain* domain) const { virDomainFree(domain); }
};
using Connection = std::unique_ptr<virConnect, CloseConnection>;
using Domain = std::unique_ptr<virDomain, FreeDomain>;

// libvirt's last words in this thread. not_found for a domain or an element that is not there.
ckpt::Error libvirt_error(const std::string& about);

// One that ends when libvirtd does not answer for a quarter of a minute, as long as an event loop runs.
ckpt::Result<Connection> connect(const std::string& uri);
// By name, otherwise by UUID. Errors: not_found.
ckpt::Result<Domain> find_domain(virConnect* connection, const std::string& name);
ckpt::Result<std::string> xml_of(virDomain* domain, unsigned flags);
ckpt::Result<std::string> uuid_of(virDomain* domain);

}  // namespace libvirt_hooks
