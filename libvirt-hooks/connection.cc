// SPDX-License-Identifier: LGPL-2.1-or-later
#include "connection.h"

#include <libvirt/virterror.h>

#include <cstdlib>

#include "common/libvirt_domain.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int keepalive_interval_s = 5;
constexpr unsigned keepalive_count = 3;

}  // namespace

ckpt::Error libvirt_error(const std::string& about) {
  const virError* last = virGetLastError();
  int code = last ? last->code : VIR_ERR_INTERNAL_ERROR;
  bool absent = code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_NO_DOMAIN_METADATA;
  return make_error(absent ? Code::not_found : Code::unavailable,
                    about + ": " + (last && last->message ? last->message : "libvirt does not say why"));
}

ckpt::Result<Connection> connect(const std::string& uri) {
  // What is an error is said in our words.
  virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
  Connection connection(virConnectOpen(uri.c_str()));
  if (!connection) return libvirt_error("no libvirt at " + uri);
  virConnectSetKeepAlive(connection.get(), keepalive_interval_s, keepalive_count);
  return connection;
}

ckpt::Result<Domain> find_domain(virConnect* connection, const std::string& name) {
  Domain domain(virDomainLookupByName(connection, name.c_str()));
  if (!domain && ckptd::is_uuid(name)) domain.reset(virDomainLookupByUUIDString(connection, name.c_str()));
  if (!domain) return libvirt_error("domain '" + name + "'");
  return domain;
}

ckpt::Result<std::string> xml_of(virDomain* domain, unsigned flags) {
  char* text = virDomainGetXMLDesc(domain, flags);
  if (!text) return libvirt_error("the domain's XML");
  std::string xml = text;
  std::free(text);
  return xml;
}

ckpt::Result<std::string> uuid_of(virDomain* domain) {
  char text[VIR_UUID_STRING_BUFLEN];
  if (virDomainGetUUIDString(domain, text) < 0) return libvirt_error("the domain's UUID");
  return std::string(text);
}

}  // namespace libvirt_hooks
