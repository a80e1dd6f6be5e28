// SPDX-License-Identifier: LGPL-2.1-or-later
#include "clone_xml.h"

#include <charconv>
#include <cstdint>
#include <cstdio>

#include "domain_xml.h"
#include "xml_tree.h"

namespace libvirt_hooks {

namespace {

void drop_attribute(xmlNode* node, const char* name) {
  if (node) xmlUnsetProp(node, xml_string(name));
}

void drop_children(xmlNode* parent, std::string_view name) {
  for (xmlNode* node : children(parent, name)) drop(node);
}

std::string beside(const std::string& path, const std::string& name) {
  auto slash = path.rfind('/');
  return path.substr(0, slash + 1) + name + "." + path.substr(slash + 1);
}

void name_it(xmlNode* domain, const CloneIdentity& identity) {
  set_text(child(domain, "name"), identity.name);
  set_text(child(domain, "uuid"), identity.uuid);
  for (xmlNode* block : children(child(domain, "sysinfo"), "system"))
    for (xmlNode* entry : children(block, "entry"))
      if (attribute(entry, "name") == "uuid") set_text(entry, identity.uuid);
  // Not left to libvirt, which reads an image's XML twice and would find two.
  if (xmlNode* generation = child(domain, "genid")) set_text(generation, identity.generation);
  for (xmlNode* element : metadata_elements(domain, protection_namespace)) drop_attribute(element, "machine");
}

// Of those that are KVM's by custom.
std::string mac_of(const CloneIdentity& identity, std::uint32_t card) {
  constexpr std::size_t digits = 6;
  const std::string_view random = std::string_view(identity.uuid).substr(identity.uuid.size() - digits);
  std::uint32_t first = 0;
  std::from_chars(random.data(), random.data() + random.size(), first, 16);
  const std::uint32_t own = (first + card) & 0xFFFFFF;
  char text[sizeof("52:54:00:00:00:00")];
  std::snprintf(text, sizeof(text), "52:54:00:%02x:%02x:%02x", own >> 16, own >> 8 & 0xFF, own & 0xFF);
  return text;
}

void give_address(xmlNode* card, const std::string& address) {
  drop_children(card, "target");
  for (xmlNode* port : children(card, "virtualport"))
    for (xmlNode* parameters : children(port, "parameters")) drop_attribute(parameters, "interfaceid");
  xmlNode* mac = child(card, "mac");
  set(mac ? mac : add(card, "mac"), "address", address);
}

// Where two would write into one file, or take each other's socket.
void part_line(xmlNode* line, const std::string& name) {
  const std::string type = attribute(line, "type");
  const xmlNode* target = child(line, "target");
  const std::string port = target ? attribute(target, "name") : "";
  for (xmlNode* source : children(line, "source")) {
    const std::string path = attribute(source, "path");
    const bool bound = type == "unix" && attribute(source, "mode") == "bind";
    // libvirt has chosen it by the name of the port, and chooses again.
    if (bound && !port.empty() && path.ends_with("/" + port))
      drop_attribute(source, "path");
    else if (path.starts_with('/') && (bound || type == "file"))
      set(source, "path", beside(path, name));
  }
  for (xmlNode* log : children(line, "log"))
    if (const std::string file = attribute(log, "file"); file.starts_with('/')) set(log, "file", beside(file, name));
}

void part_screen(xmlNode* screen) {
  for (const char* own : {"port", "tlsPort", "websocket", "socket"}) drop_attribute(screen, own);
  if (xmlHasProp(screen, xml_string("autoport"))) set(screen, "autoport", "yes");
  for (xmlNode* listen : children(screen, "listen")) drop_attribute(listen, "socket");
}

xmlNode* devices_of(const xmlNode* domain) { return child(domain, "devices"); }

}  // namespace

ckpt::Result<std::string> clone_xml(const std::string& domain_xml, const CloneIdentity& identity) {
  if (!ckptd::is_uuid(identity.uuid)) return ckpt::make_error(ckpt::Code::invalid, "a clone's UUID is none");
  CKPT_ASSIGN(DomainXml parsed, parse_domain_xml(domain_xml));
  if (!parsed.protection) return ckpt::make_error(ckpt::Code::refused, "its domain XML has no protection element");
  CKPT_ASSIGN(Document document, read_document(domain_xml));
  CKPT_ASSIGN(xmlNode * domain, domain_element(document.get()));
  name_it(domain, identity);
  const xmlNode* devices = devices_of(domain);
  std::uint32_t number = 0;
  for (xmlNode* card : children(devices, "interface")) give_address(card, mac_of(identity, number++));
  for (const char* kind : {"serial", "parallel", "console", "channel"})
    for (xmlNode* line : children(devices, kind)) part_line(line, identity.name);
  for (xmlNode* screen : children(devices, "graphics")) part_screen(screen);
  return document_text(document.get());
}

ckpt::Result<std::vector<std::string>> macs_of(const std::string& domain_xml) {
  CKPT_ASSIGN(Document document, read_document(domain_xml));
  CKPT_ASSIGN(const xmlNode* domain, domain_element(document.get()));
  std::vector<std::string> macs;
  for (const xmlNode* card : children(devices_of(domain), "interface"))
    if (const xmlNode* mac = child(card, "mac")) macs.push_back(attribute(mac, "address"));
  return macs;
}

ckpt::Result<std::vector<std::string>> unplugged_cards(const std::string& domain_xml) {
  CKPT_ASSIGN(Document document, read_document(domain_xml));
  CKPT_ASSIGN(const xmlNode* domain, domain_element(document.get()));
  std::vector<std::string> cards;
  for (xmlNode* card : children(devices_of(domain), "interface")) {
    xmlNode* link = child(card, "link");
    if (link && attribute(link, "state") == "down") continue;
    set(link ? link : add(card, "link"), "state", "down");
    cards.push_back(node_text(card));
  }
  return cards;
}

}  // namespace libvirt_hooks
