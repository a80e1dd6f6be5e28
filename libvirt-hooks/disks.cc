// SPDX-License-Identifier: LGPL-2.1-or-later
#include "disks.h"

#include <algorithm>

#include "connection.h"
#include "restore_xml.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::Json;

namespace {

struct Running {
  Connection connection;
  Domain domain;
  std::map<std::string, Disk> disks;  // by target
};

ckpt::Result<Running> find_running(const std::string& uri, const std::string& uuid) {
  Running found;
  CKPT_ASSIGN(found.connection, connect(uri));
  found.domain.reset(virDomainLookupByUUIDString(found.connection.get(), uuid.c_str()));
  if (!found.domain) return libvirt_error("domain " + uuid);
  CKPT_ASSIGN(std::string xml, xml_of(found.domain.get(), 0));
  CKPT_ASSIGN(found.disks, disks_of(xml));
  return found;
}

ckpt::Result<std::string> target_of(const Running& running, const std::string& name) {
  for (const auto& [target, disk] : running.disks)
    if (target == name || disk.file == name) return target;
  return make_error(Code::not_found, "the domain has no disk " + name + " any more");
}

// Beginning it twice is beginning it once.
ckpt::Status pull(virDomain* domain, const std::string& target, unsigned long bandwidth_bytes_s) {
  virDomainBlockJobInfo info;
  const int jobs = virDomainGetBlockJobInfo(domain, target.c_str(), &info, 0);
  if (jobs < 0) return libvirt_error("disk " + target);
  if (jobs > 0) return {};
  if (virDomainBlockPull(domain, target.c_str(), bandwidth_bytes_s, VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES) < 0)
    return libvirt_error("disk " + target);
  return {};
}

}  // namespace

ckpt::Result<Json> define_disks(const std::string& uri, const DomainDisks& disks) {
  CKPT_ASSIGN(Running running, find_running(uri, disks.uuid));
  if (virDomainIsPersistent(running.domain.get()) != 1) return Json(Json::object());
  CKPT_ASSIGN(std::string xml, xml_of(running.domain.get(), VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE));
  CKPT_ASSIGN(auto defined, disks_of(xml));
  std::vector<PlacedDisk> placed;
  for (const auto& name : disks.disks) {
    CKPT_ASSIGN(std::string target, target_of(running, name));
    const std::string& file = running.disks[target].file;
    // A definition without the disk is the admin's own.
    if (auto known = defined.find(target); known != defined.end() && known->second.file != file)
      placed.push_back({target, file, ""});
  }
  if (placed.empty()) return Json(Json::object());
  CKPT_ASSIGN(std::string edited, with_disks(xml, placed));
  Domain done(virDomainDefineXML(running.connection.get(), edited.c_str()));
  if (!done) return libvirt_error("the domain with its new disks");
  return Json(Json::object());
}

ckpt::Result<Json> pull_disks(const std::string& uri, const DomainDisks& disks) {
  CKPT_ASSIGN(Running running, find_running(uri, disks.uuid));
  const auto share = disks.bandwidth_bytes_s / std::max<std::size_t>(1, disks.disks.size());
  Json found = Json::array();
  for (const auto& name : disks.disks) {
    CKPT_ASSIGN(std::string target, target_of(running, name));
    const bool local = running.disks[target].stands_alone;
    if (!local) CKPT_TRY(pull(running.domain.get(), target, share));
    found.push_back({{"file", running.disks[target].file}, {"local", local}});
  }
  return Json{{"disks", found}};
}

}  // namespace libvirt_hooks
