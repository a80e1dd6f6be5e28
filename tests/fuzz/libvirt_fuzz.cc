// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whatever libvirt gives as a domain's XML, or lies in RUN_DIR/libvirt, it is refused or understood; what is understood
// can be written and read again.
#include <cstdio>
#include <cstdlib>

#include "common/libvirt_domain.h"
#include "libvirt-hooks/clone_xml.cc"
#include "libvirt-hooks/domain_xml.cc"
#include "libvirt-hooks/restore_xml.cc"
#include "libvirt-hooks/xml_tree.cc"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// What is understood as an image runs as a domain that names no point.
void restore(std::string_view text) {
  auto image = libvirt_hooks::parse_image(text);
  if (!image.ok() || !*image) return;
  require(libvirt_hooks::may_be_image(text) && (*image)->checkpoint != 0 && (*image)->domain.error.empty());
  std::vector<libvirt_hooks::PlacedDisk> placed;
  for (const auto& disk : (*image)->disks) placed.push_back({disk.target, "/new.qcow2", "/disk.sock"});
  auto run = libvirt_hooks::with_disks(std::string(text), placed);
  require(run.ok());
  auto again = libvirt_hooks::parse_image(*run);
  require(again.ok() && !*again);
  auto disks = libvirt_hooks::disks_of(*run);
  require(disks.ok());
  for (const auto& disk : placed) require((*disks)[disk.target].file == "/new.qcow2");
}

// What can be cloned is a domain of its own then, and its network cards can be unplugged.
void clone(std::string_view text) {
  const std::string own = "11111111-2222-4333-8444-555555555555";
  auto copy = libvirt_hooks::clone_xml(std::string(text), {"clone", own, own});
  if (!copy.ok() || copy->size() > ckptd::domain_xml_limit_bytes) return;
  auto parsed = libvirt_hooks::parse_domain_xml(*copy);
  require(parsed.ok() && parsed->uuid == own && parsed->name == "clone" && parsed->protection);
  require(parsed->protection->machine.empty() || parsed->protection->machine == "clone");
  require(libvirt_hooks::unplugged_cards(*copy).ok() && libvirt_hooks::macs_of(*copy).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto json = ckptd::parse_object(text); json.ok())
    if (auto domain = ckptd::libvirt_domain_from_json(*json); domain.ok()) require(ckptd::is_uuid(domain->uuid));
  restore(text);
  clone(text);
  auto parsed = libvirt_hooks::parse_domain_xml(text);
  if (!parsed.ok()) return 0;
  require(ckptd::is_uuid(parsed->uuid) && !parsed->name.empty());
  if (!parsed->protection) return 0;
  auto written = ckptd::parse_object(ckptd::dump(to_json(*parsed->protection)));
  require(written.ok());
  auto again = ckptd::libvirt_domain_from_json(*written);
  require(again.ok() && again->machine == parsed->protection->machine && again->policy == parsed->protection->policy);
  return 0;
}
