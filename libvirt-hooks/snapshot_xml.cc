// SPDX-License-Identifier: LGPL-2.1-or-later
#include "snapshot_xml.h"

#include "xml_tree.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::string_view overlay_suffix = ".qcow2", snapshot_suffix = ".snapshot.qcow2";

void add_text(xmlNode* parent, const char* name, const std::string& text) { set_text(add(parent, name), text); }

}  // namespace

ckpt::Result<std::string> snapshot_xml(const Snapshot& snapshot, const std::string& domain_xml) {
  CKPT_ASSIGN(Document domain, read_document(domain_xml));
  CKPT_ASSIGN(xmlNode * domain_root, domain_element(domain.get()));
  Document document(xmlNewDoc(xml_string("1.0")));
  xmlNode* root = xmlNewDocNode(document.get(), nullptr, xml_string("domainsnapshot"), nullptr);
  xmlDocSetRootElement(document.get(), root);
  add_text(root, "name", snapshot.name);
  if (!snapshot.description.empty()) add_text(root, "description", snapshot.description);
  add_text(root, "state", snapshot.running ? "running" : "paused");
  add_text(root, "creationTime", std::to_string(snapshot.created_s));
  if (!snapshot.parent.empty()) add_text(add(root, "parent"), "name", snapshot.parent);
  xmlNode* memory = add(root, "memory");
  set(memory, "snapshot", "external");
  set(memory, "file", snapshot.memory_file);
  xmlNode* disks = add(root, "disks");
  for (const xmlNode* disk : children(child(domain_root, "devices"), "disk")) {
    const xmlNode* target = child(disk, "target");
    xmlNode* item = add(disks, "disk");
    set(item, "name", target ? attribute(target, "dev") : "");
    set(item, "snapshot", "no");
  }
  xmlNode* copy = xmlDocCopyNode(domain_root, document.get(), 1);
  if (!copy) return make_error(Code::limit, "no memory for the snapshot's XML");
  xmlAddChild(root, copy);
  return document_text(document.get());
}

ckpt::Result<std::string> memory_file_of(const std::string& xml) {
  CKPT_ASSIGN(Document document, read_document(xml));
  const xmlNode* memory = child(xmlDocGetRootElement(document.get()), "memory");
  return memory ? attribute(memory, "file") : std::string();
}

std::string snapshot_disk_file(const std::string& image_file) {
  return image_file.substr(0, image_file.size() - overlay_suffix.size()) + std::string(snapshot_suffix);
}

ckpt::Result<std::string> with_passwords(const std::string& domain_xml, const std::string& present) {
  CKPT_ASSIGN(Document document, read_document(domain_xml));
  CKPT_ASSIGN(Document now, read_document(present));
  CKPT_ASSIGN(xmlNode * root, domain_element(document.get()));
  CKPT_ASSIGN(const xmlNode* now_root, domain_element(now.get()));
  auto left = children(child(now_root, "devices"), "graphics");
  for (xmlNode* console : children(child(root, "devices"), "graphics")) {
    for (auto known = left.begin(); known != left.end(); ++known) {
      if (attribute(*known, "type") != attribute(console, "type")) continue;
      for (const char* word : {"passwd", "passwdValidTo"})
        if (std::string value = attribute(*known, word); !value.empty()) set(console, word, value);
      left.erase(known);
      break;
    }
  }
  return document_text(document.get());
}

}  // namespace libvirt_hooks
