// SPDX-License-Identifier: LGPL-2.1-or-later
#include "domain_xml.h"

#include <vector>

#include "common/policy.h"
#include "common/text.h"
#include "xml_tree.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::LibvirtDomain;

namespace {

constexpr std::string_view any_version = "urn:x-ckpt:domain:";

// For a message: short, on one line.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (char c : text.substr(0, 80)) out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  return out + (text.size() > 80 ? "…'" : "'");
}

ckpt::Status check_content(const xmlNode* element) {
  for (const xmlNode* node = element->children; node; node = node->next) {
    if (node->type == XML_COMMENT_NODE || xmlIsBlankNode(node)) continue;
    return make_error(Code::invalid, is_element(node) ? "unknown element " + in_quotes(view(node->name)) + " in it"
                                                      : "text in it: everything is said by attributes");
  }
  return {};
}

struct Attributes {
  std::string interval, retention, consistent, machine;
};

ckpt::Result<Attributes> read_attributes(const xmlNode* element) {
  Attributes found;
  for (const xmlAttr* at = element->properties; at; at = at->next) {
    std::string_view name = view(at->name);
    std::string value = text_of(reinterpret_cast<const xmlNode*>(at));
    std::string* place = at->ns                 ? nullptr
                         : name == "interval"   ? &found.interval
                         : name == "retention"  ? &found.retention
                         : name == "consistent" ? &found.consistent
                         : name == "machine"    ? &found.machine
                                                : nullptr;
    if (!at->ns && name == "required") {
      if (value != "yes" && value != "no")
        return make_error(Code::invalid, "required=" + in_quotes(value) + ": write yes or no");
      continue;
    }
    if (!place)
      return make_error(Code::invalid, "unknown attribute " + in_quotes(name) +
                                           ": interval, retention, consistent, machine and required are known");
    if (value.empty()) return make_error(Code::invalid, "empty attribute " + in_quotes(name) + ": leave it out");
    *place = value;
  }
  return found;
}

ckpt::Status check_emulator(const xmlNode* domain) {
  std::string emulator = text_of(child(child(domain, "devices"), "emulator"));
  if (is_launcher(emulator)) return {};
  return make_error(Code::invalid, "its <emulator> is " + in_quotes(emulator) + ", and no launcher of ckpt's: name " +
                                       std::string(launcher_prefix) + "x86_64, with its full path");
}

ckpt::Status fill(const xmlNode* domain, const std::vector<xmlNode*>& elements, LibvirtDomain& protection) {
  const xmlNode* element = elements.front();
  if (elements.size() > 1) return make_error(Code::invalid, "there are several: leave one");
  if (namespace_of(element) != protection_namespace)
    return make_error(Code::version, "it is of namespace " + in_quotes(namespace_of(element)) +
                                         ", and this ckpt knows " + std::string(protection_namespace) +
                                         ": install a newer one");
  if (view(element->name) != "protection")
    return make_error(Code::invalid, "unknown element " + in_quotes(view(element->name)) + ": <protection> is known");
  CKPT_TRY(check_content(element));
  CKPT_ASSIGN(Attributes given, read_attributes(element));
  CKPT_ASSIGN(protection.policy, policy_of(given.interval, given.retention, given.consistent));
  CKPT_ASSIGN(protection.machine, machine_of(given.machine, protection.name));
  return check_emulator(domain);
}

std::string user_of(const xmlNode* domain) {
  for (const xmlNode* node = domain->children; node; node = node->next)
    if (is_element(node) && view(node->name) == "seclabel" && attribute(node, "model") == "dac")
      return text_of(child(node, "label"));
  return "";
}

}  // namespace

bool is_launcher(std::string_view emulator) {
  return emulator.substr(emulator.rfind('/') + 1).starts_with(launcher_prefix);
}

ckpt::Result<std::string> machine_of(const std::string& given, const std::string& domain) {
  const std::string& machine = given.empty() ? domain : given;
  auto name = ckptd::check_machine_name(machine);
  if (name.ok() && machine != "ckptd") return machine;
  return make_error(Code::invalid, (name.ok() ? "'ckptd' cannot name a machine" : name.error().message()) +
                                       (given.empty() ? "; give it one with machine='NAME'" : ""));
}

ckpt::Result<ckptd::Json> policy_of(const std::string& interval, const std::string& retention,
                                    const std::string& consistent) {
  ckptd::Json policy = ckptd::Json::object();
  if (!interval.empty()) {
    CKPT_ASSIGN(policy["interval_ms"], ckptd::parse_duration_ms(interval));
  }
  if (!retention.empty()) {
    CKPT_ASSIGN(policy["retention"], ckptd::parse_retention(retention));
  }
  if (!consistent.empty()) {
    CKPT_ASSIGN(policy["consistent_ms"], ckptd::parse_consistent_ms(consistent));
  }
  if (auto checked = ckptd::policy_from_json(policy, {}); !checked.ok()) return checked.error();
  return policy;
}

ckpt::Result<DomainXml> parse_domain_xml(std::string_view xml) {
  CKPT_ASSIGN(auto document, read_document(xml));
  CKPT_ASSIGN(const xmlNode* root, domain_element(document.get()));
  DomainXml domain;
  domain.uuid = text_of(child(root, "uuid"));
  domain.name = text_of(child(root, "name"));
  if (!ckptd::is_uuid(domain.uuid)) return make_error(Code::invalid, "domain XML without a UUID");
  if (domain.name.empty()) return make_error(Code::invalid, "domain XML without a name");
  domain.user = user_of(root);
  auto elements = metadata_elements(root, any_version);
  if (elements.empty()) return domain;
  LibvirtDomain& protection = domain.protection.emplace();
  protection.uuid = domain.uuid;
  protection.name = domain.name;
  protection.xml = xml;
  // This one word keeps its meaning in every version.
  for (const xmlNode* element : elements) protection.required |= attribute(element, "required") == "yes";
  if (auto status = fill(root, elements, protection); !status.ok())
    protection.error = "its protection element cannot be carried out: " + status.error().message();
  return domain;
}

}  // namespace libvirt_hooks
