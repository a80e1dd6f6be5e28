// SPDX-License-Identifier: LGPL-2.1-or-later
#include "restore_xml.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "common/restore_parts.h"
#include "common/text.h"
#include "xml_tree.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::string_view any_restore_version = "urn:x-ckpt:restore:";
constexpr std::string_view usual_directory = "/var/lib/libvirt/images";
constexpr std::string_view usual_nvram_directory = "/var/lib/libvirt/qemu/nvram";
// The flash that holds UEFI's variables, as QEMU names it.
constexpr std::string_view nvram_name = "/machine/system.flash1";

std::vector<xmlNode*> restore_elements(const xmlNode* domain) { return metadata_elements(domain, any_restore_version); }

std::vector<xmlNode*> disk_elements(const xmlNode* domain) { return children(child(domain, "devices"), "disk"); }

std::string target_of(const xmlNode* disk) {
  const xmlNode* target = child(disk, "target");
  return target ? attribute(target, "dev") : "";
}

std::string file_of(const xmlNode* disk) {
  const xmlNode* source = child(disk, "source");
  return source && attribute(disk, "type") == "file" ? attribute(source, "file") : "";
}

// UEFI's variables: a disk for QEMU, and for libvirt something of its own.
xmlNode* nvram_of(const xmlNode* domain) { return child(child(domain, "os"), "nvram"); }

std::string file_of_nvram(const xmlNode* nvram) {
  const xmlNode* source = child(nvram, "source");
  return source ? attribute(source, "file") : text_of(nvram);
}

void place_nvram(xmlNode* nvram, const std::string& file) {
  for (const char* former : {"type", "format", "template", "templateFormat"}) xmlUnsetProp(nvram, xml_string(former));
  set_text(nvram, file);
}

bool is_written(const xmlNode* disk) {
  const std::string device = attribute(disk, "device");
  return device != "cdrom" && device != "floppy" && !child(disk, "readonly");
}

void place(xmlNode* disk, const std::string& file, const std::string& socket) {
  for (const char* former : {"source", "backingStore", "mirror"})
    for (xmlNode* node : children(disk, former)) drop(node);
  set(disk, "type", "file");
  xmlNode* driver = child(disk, "driver");
  if (!driver) driver = add(disk, "driver");
  set(driver, "name", "qemu");
  set(driver, "type", "qcow2");
  set(add(disk, "source"), "file", file);
  if (socket.empty()) return;
  xmlNode* backing = add(disk, "backingStore");
  set(backing, "type", "network");
  set(add(backing, "format"), "type", "raw");
  xmlNode* source = add(backing, "source");
  set(source, "protocol", "nbd");
  xmlNode* host = add(source, "host");
  set(host, "transport", "unix");
  set(host, "socket", socket);
  set(add(source, "reconnect"), "delay", std::to_string(ckptd::disk_server_wait_s));
  add(backing, "backingStore");
}

// QEMU's name for a disk is its device's ID, or the device's place, and libvirt's alias is the ID.
bool is_named(const std::string& name, const std::string& alias) {
  const std::string path = "/machine/peripheral/" + alias;
  return !alias.empty() && (name == alias || name == path || name.starts_with(path + "/"));
}

std::string directory_of(const std::string& file, std::string_view usual) {
  return file.starts_with('/') ? file.substr(0, file.rfind('/')) : std::string(usual);
}

void add_restore(xmlNode* domain, const Point& point, const std::vector<ImageDisk>& disks) {
  for (xmlNode* node : restore_elements(domain)) drop(node);
  xmlNode* metadata = child(domain, "metadata");
  if (!metadata) metadata = add(domain, "metadata");
  xmlNode* element = add(metadata, "restore");
  xmlNs* ns = xmlNewNs(element, xml_string(std::string(restore_namespace).c_str()), xml_string("ckpt"));
  xmlSetNs(element, ns);
  set(element, "machine", point.machine);
  set(element, "checkpoint", std::to_string(point.checkpoint));
  if (!point.clone_of.empty()) set(element, "clone-of", point.clone_of);
  for (const auto& disk : disks) {
    xmlNode* item = xmlNewChild(element, ns, xml_string("disk"), nullptr);
    set(item, "target", disk.target);
    set(item, "name", disk.name);
  }
}

// Everything is said by these attributes, all of which must be there but for one.
ckpt::Status read_attributes(const xmlNode* element, const std::map<std::string_view, std::string*>& places,
                             std::string_view optional = {}) {
  for (const xmlAttr* at = element->properties; at; at = at->next) {
    auto place = at->ns ? places.end() : places.find(view(at->name));
    if (place == places.end())
      return make_error(Code::invalid, "unknown attribute '" + std::string(view(at->name)).substr(0, 80) + "' in it");
    *place->second = text_of(reinterpret_cast<const xmlNode*>(at));
  }
  for (const auto& [name, value] : places)
    if (value->empty() && (name != optional || xmlHasProp(element, xml_string(optional.data()))))
      return make_error(Code::invalid, "attribute '" + std::string(name) + "' is missing or empty");
  return {};
}

ckpt::Status read_disks(const xmlNode* domain, const xmlNode* element, std::vector<ImageDisk>& disks) {
  for (const xmlNode* node = element->children; node; node = node->next) {
    if (node->type == XML_COMMENT_NODE || xmlIsBlankNode(node)) continue;
    if (!is_element(node) || view(node->name) != "disk" || namespace_of(node) != restore_namespace)
      return make_error(Code::invalid, "there is something in it that is no <disk>");
    ImageDisk& disk = disks.emplace_back();
    CKPT_TRY(read_attributes(node, {{"target", &disk.target}, {"name", &disk.name}}));
  }
  std::map<std::string, std::string> files;  // by target
  std::set<std::string> left, names;
  for (const xmlNode* disk : disk_elements(domain)) {
    files.try_emplace(target_of(disk), file_of(disk));
    if (is_written(disk)) left.insert(target_of(disk));
  }
  if (const xmlNode* nvram = nvram_of(domain)) {
    files[std::string(ckptd::nvram_target)] = file_of_nvram(nvram);
    left.emplace(ckptd::nvram_target);
  }
  for (auto& disk : disks) {
    auto found = files.find(disk.target);
    if (found == files.end() || !names.insert(disk.name).second || !names.insert(disk.target + "/target").second)
      return make_error(Code::invalid, "the domain has no disk '" + disk.target + "', or it is named twice");
    disk.file = found->second;
    left.erase(disk.target);
  }
  if (left.empty()) return {};
  return make_error(Code::invalid, "disk '" + *left.begin() +
                                       "' of the domain is not named in it: its content would not "
                                       "belong to the machine");
}

ckpt::Status read_element(const xmlNode* domain, const std::vector<xmlNode*>& elements, Image& image) {
  const xmlNode* element = elements.front();
  if (elements.size() > 1) return make_error(Code::invalid, "there are several: leave one");
  if (namespace_of(element) != restore_namespace)
    return make_error(Code::version, "it is of another version, and this ckpt knows " + std::string(restore_namespace) +
                                         ": install a newer one");
  if (view(element->name) != "restore") return make_error(Code::invalid, "it is no <restore>");
  std::string number;
  CKPT_TRY(read_attributes(
      element, {{"machine", &image.machine}, {"checkpoint", &number}, {"clone-of", &image.clone_of}}, "clone-of"));
  if (!image.clone_of.empty() && !ckptd::is_uuid(image.clone_of))
    return make_error(Code::invalid, "its clone-of is no UUID");
  CKPT_TRY(ckptd::check_machine_name(image.machine));
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), image.checkpoint);
  if (error != std::errc() || end != number.data() + number.size() || image.checkpoint == 0)
    return make_error(Code::invalid, "its checkpoint is no number");
  return read_disks(domain, element, image.disks);
}

}  // namespace

bool may_be_image(std::string_view xml) { return xml.find(any_restore_version) != std::string_view::npos; }

ckpt::Result<std::optional<Image>> parse_image(std::string_view xml) {
  CKPT_ASSIGN(auto document, read_document(xml));
  CKPT_ASSIGN(const xmlNode* root, domain_element(document.get()));
  auto elements = restore_elements(root);
  if (elements.empty()) return std::optional<Image>();
  Image image;
  if (auto read = read_element(root, elements, image); !read.ok())
    return make_error(read.error().code, "its restore element: " + read.error().message());
  CKPT_ASSIGN(DomainXml domain, parse_domain_xml(xml));
  if (!domain.protection)
    return make_error(Code::invalid, "it has no protection element beside the restore element: leave it in");
  if (!domain.protection->error.empty()) return make_error(Code::invalid, domain.protection->error);
  image.domain = std::move(*domain.protection);
  return std::optional(std::move(image));
}

ckpt::Result<std::string> image_xml(const std::string& domain_xml, const Point& point) {
  CKPT_ASSIGN(auto document, read_document(domain_xml));
  CKPT_ASSIGN(xmlNode * root, domain_element(document.get()));
  std::vector<ImageDisk> disks;
  auto names = point.disks;
  const std::string owner = point.clone_of.empty() ? point.machine : text_of(child(root, "name"));
  for (xmlNode* disk : disk_elements(root)) {
    const xmlNode* alias = child(disk, "alias");
    const std::string target = target_of(disk), id = alias ? attribute(alias, "name") : "";
    auto name = std::find_if(names.begin(), names.end(), [&](const std::string& at) { return is_named(at, id); });
    if (name == names.end() && !is_written(disk)) continue;
    if (name == names.end())
      return make_error(Code::refused, "the checkpoint lacks the domain's disk '" + target + "'");
    disks.push_back({target, *name, ""});
    place(disk,
          directory_of(file_of(disk), usual_directory) + "/" + owner + "." + target + "." +
              std::to_string(point.checkpoint) + std::string(ckptd::overlay_suffix),
          "");
    names.erase(name);
  }
  if (xmlNode* nvram = nvram_of(root)) {
    if (std::erase(names, nvram_name) == 0)
      return make_error(Code::refused, "the checkpoint lacks the domain's UEFI variables (<nvram>)");
    disks.push_back({std::string(ckptd::nvram_target), std::string(nvram_name), ""});
    place_nvram(nvram, directory_of(file_of_nvram(nvram), usual_nvram_directory) + "/" + owner + "_VARS." +
                           std::to_string(point.checkpoint) + std::string(ckptd::nvram_suffix));
  }
  if (!names.empty())
    return make_error(Code::refused, "the checkpoint has a disk '" + names.front() + "' that its domain XML lacks");
  add_restore(root, point, disks);
  return document_text(document.get());
}

ckpt::Result<std::string> with_disks(const std::string& domain_xml, const std::vector<PlacedDisk>& disks) {
  CKPT_ASSIGN(auto document, read_document(domain_xml));
  CKPT_ASSIGN(xmlNode * root, domain_element(document.get()));
  for (xmlNode* node : restore_elements(root)) drop(node);
  for (const auto& placed : disks) {
    for (xmlNode* disk : disk_elements(root))
      if (target_of(disk) == placed.target) place(disk, placed.file, placed.socket);
    xmlNode* nvram = nvram_of(root);
    if (nvram && placed.target == ckptd::nvram_target) place_nvram(nvram, placed.file);
  }
  return document_text(document.get());
}

ckpt::Result<std::map<std::string, Disk>> disks_of(const std::string& domain_xml) {
  CKPT_ASSIGN(auto document, read_document(domain_xml));
  CKPT_ASSIGN(const xmlNode* root, domain_element(document.get()));
  std::map<std::string, Disk> found;
  for (const xmlNode* disk : disk_elements(root)) {
    const xmlNode* backing = child(disk, "backingStore");
    found[target_of(disk)] = {file_of(disk), !backing || !child(backing, "source")};
  }
  if (const xmlNode* nvram = nvram_of(root)) found[std::string(ckptd::nvram_target)] = {file_of_nvram(nvram), true};
  return found;
}

}  // namespace libvirt_hooks
