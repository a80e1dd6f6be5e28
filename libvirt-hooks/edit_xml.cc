// SPDX-License-Identifier: LGPL-2.1-or-later
#include "edit_xml.h"

#include "domain_xml.h"
#include "xml_tree.h"

namespace libvirt_hooks {

ckpt::Result<std::string> with_attributes(const std::string& element,
                                          const std::vector<std::pair<std::string, std::string>>& attributes) {
  CKPT_ASSIGN(Document document, read_document(element.empty() ? "<protection/>" : element));
  xmlNode* root = xmlDocGetRootElement(document.get());
  for (const auto& [name, value] : attributes)
    if (!value.empty()) xmlSetProp(root, xml_string(name.c_str()), xml_string(value.c_str()));
  return document_text(document.get());
}

ckpt::Result<std::string> attribute_of(const std::string& element, const char* name) {
  if (element.empty()) return std::string();
  CKPT_ASSIGN(Document document, read_document(element));
  return attribute(xmlDocGetRootElement(document.get()), name);
}

ckpt::Result<std::string> with_emulator(const std::string& domain_xml, const std::string& emulator) {
  CKPT_ASSIGN(Document document, read_document(domain_xml));
  xmlNode* devices = child(xmlDocGetRootElement(document.get()), "devices");
  if (!devices) return ckpt::make_error(ckpt::Code::invalid, "domain XML without devices");
  xmlNode* element = child(devices, "emulator");
  if (is_launcher(text_of(element))) return std::string();
  set_text(element ? element : add(devices, "emulator"), emulator);
  return document_text(document.get());
}

}  // namespace libvirt_hooks
