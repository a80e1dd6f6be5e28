// SPDX-License-Identifier: LGPL-2.1-or-later
#include "change.h"

#include <cstdlib>
#include <optional>

#include "domain_xml.h"
#include "edit_xml.h"
#include "follow.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::Json;

namespace {

constexpr const char* prefix = "ckpt";
const Json no_domain = {{"domain", nullptr}};

struct Found {
  Connection connection;
  Domain domain;
  std::string uuid;
  bool running = false, persistent = false;

  // What virDomainSetMetadata() and its like are to change: all that there is.
  unsigned affected() const {
    return unsigned{running} * VIR_DOMAIN_AFFECT_LIVE | unsigned{persistent} * VIR_DOMAIN_AFFECT_CONFIG;
  }
  // Where it is read: what comes at the next start, if there is one.
  unsigned read_from() const { return persistent ? VIR_DOMAIN_AFFECT_CONFIG : VIR_DOMAIN_AFFECT_LIVE; }
};

// Nothing: libvirt knows no domain of this name.
ckpt::Result<std::optional<Found>> find(const std::string& uri, const std::string& name) {
  Found found;
  CKPT_ASSIGN(found.connection, connect(uri));
  auto domain = find_domain(found.connection.get(), name);
  if (!domain.ok() && domain.error().code == Code::not_found) return std::optional<Found>();
  CKPT_ASSIGN(found.domain, std::move(domain));
  CKPT_ASSIGN(found.uuid, uuid_of(found.domain.get()));
  int active = virDomainIsActive(found.domain.get()), persistent = virDomainIsPersistent(found.domain.get());
  if (active < 0 || persistent < 0) return libvirt_error("domain '" + name + "'");
  found.running = active == 1;
  found.persistent = persistent == 1;
  return std::optional(std::move(found));
}

// Empty: it has none.
ckpt::Result<std::string> element_of(const Found& found) {
  char* text = virDomainGetMetadata(found.domain.get(), VIR_DOMAIN_METADATA_ELEMENT,
                                    std::string(protection_namespace).c_str(), found.read_from());
  if (!text) {
    auto error = libvirt_error("the domain's metadata");
    if (error.code == Code::not_found) return std::string();
    return error;
  }
  std::string element = text;
  std::free(text);
  return element;
}

ckpt::Status set_element(const Found& found, const char* element) {
  if (virDomainSetMetadata(found.domain.get(), VIR_DOMAIN_METADATA_ELEMENT, element, element ? prefix : nullptr,
                           std::string(protection_namespace).c_str(), found.affected()) < 0)
    return libvirt_error("the domain's metadata");
  return {};
}

// For its next start; what runs keeps its QEMU.
ckpt::Status name_launcher(const Found& found) {
  if (!found.persistent) return {};
  CKPT_ASSIGN(std::string xml, xml_of(found.domain.get(), VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE));
  CKPT_ASSIGN(std::string launcher, ckptd::find_qemu_launcher());
  CKPT_ASSIGN(std::string edited, with_emulator(xml, launcher));
  if (edited.empty()) return {};
  Domain defined(virDomainDefineXML(found.connection.get(), edited.c_str()));
  if (!defined) return libvirt_error("the domain with <emulator>" + launcher + "</emulator>");
  return {};
}

// As its XML says now; empty: it is protected, or does not run.
ckpt::Result<std::string> why_unprotected(const Found& found) {
  if (!found.running) return std::string();
  CKPT_ASSIGN(std::string xml, xml_of(found.domain.get(), 0));
  CKPT_ASSIGN(DomainXml parsed, parse_domain_xml(xml));
  return parsed.protection ? parsed.protection->error : std::string();
}

}  // namespace

ckpt::Result<Json> protect_domain(const std::string& uri, const ckptd::RunDir& run_dir, const Wish& wish) {
  CKPT_TRY(policy_of(wish.interval, wish.retention, wish.consistent));
  CKPT_ASSIGN(auto found, find(uri, wish.domain));
  if (!found) return no_domain;
  CKPT_ASSIGN(std::string before, element_of(*found));
  // Nothing is changed into what would be refused.
  CKPT_ASSIGN(std::string machine, attribute_of(before, "machine"));
  if (auto name = machine_of(machine, virDomainGetName(found->domain.get())); !name.ok()) return name.error();
  CKPT_ASSIGN(std::string element, with_attributes(before, {{"interval", wish.interval},
                                                            {"retention", wish.retention},
                                                            {"consistent", wish.consistent}}));
  CKPT_TRY(name_launcher(*found));
  CKPT_TRY(set_element(*found, element.c_str()));
  CKPT_TRY(follow_domain(found->connection.get(), found->uuid, run_dir));
  CKPT_ASSIGN(std::string error, why_unprotected(*found));
  return Json{{"domain", wish.domain}, {"running", found->running}, {"error", error}};
}

ckpt::Result<Json> unprotect_domain(const std::string& uri, const ckptd::RunDir& run_dir, const std::string& name) {
  CKPT_ASSIGN(auto found, find(uri, name));
  if (!found) return no_domain;
  CKPT_ASSIGN(std::string element, element_of(*found));
  if (element.empty()) return no_domain;
  CKPT_TRY(set_element(*found, nullptr));
  CKPT_TRY(follow_domain(found->connection.get(), found->uuid, run_dir));
  return Json{{"domain", name}, {"running", found->running}, {"error", ""}};
}

}  // namespace libvirt_hooks
