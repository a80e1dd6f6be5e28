// SPDX-License-Identifier: LGPL-2.1-or-later
#include "clone.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "ckpt/env.h"
#include "clone_xml.h"
#include "common/control_client.h"
#include "common/libvirt_domain.h"
#include "common/text.h"
#include "connection.h"
#include "domain_xml.h"
#include "image.h"
#include "os/file.h"
#include "restore_xml.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::Json;

namespace {

// ckptd sees within moments that a domain has ended.
constexpr int forget_tries = 20;
constexpr auto forget_interval = std::chrono::milliseconds(100);

// Defined or running before anything else is known of it, so that it can be taken back.
struct Clone {
  virConnect* connection;
  ckptd::RunDir run_dir;
  std::string name, uuid;
  std::string image_file;
};

ckpt::Result<std::string> random_uuid() {
  std::array<std::uint8_t, 16> bytes;
  CKPT_TRY(ckpt::Env::system().random(bytes));
  bytes[6] = (bytes[6] & 0x0F) | 0x40;
  bytes[8] = (bytes[8] & 0x3F) | 0x80;
  return ckptd::uuid_text(bytes);
}

ckpt::Status check_new(virConnect* connection, const ckptd::RunDir& run_dir, const std::string& name) {
  if (auto valid = machine_of("", name); !valid.ok()) return valid.error();
  if (auto known = find_domain(connection, name); known.ok() || known.error().code != Code::not_found)
    return known.ok() ? make_error(Code::exists, "libvirt has a domain '" + name + "' already: choose another name")
                      : known.error();
  auto known = ckptd::ask_ckptd(run_dir.control_socket(), {{"verb", "status"}, {"machine", name}});
  if (known.ok())
    return make_error(Code::exists, "ckptd knows a machine '" + name +
                                        "' already: choose another name, or 'ckptctl forget " + name +
                                        "' if it is not needed");
  return known.error().code == Code::not_found ? ckpt::Status() : ckpt::Status(known.error());
}

// What ckptd knows of it by now; nothing of another machine.
void forget(const Clone& clone) {
  for (int i = 0; i < forget_tries; ++i, std::this_thread::sleep_for(forget_interval)) {
    auto status = ckptd::ask_ckptd(clone.run_dir.control_socket(), {{"verb", "status"}, {"machine", clone.name}});
    const Json machines = status.ok() ? status->value("machines", Json::array()) : Json::array();
    if (machines.empty() || ckptd::text_of(machines[0], "domain") != clone.uuid) return;
    if (ckptd::ask_ckptd(clone.run_dir.control_socket(), {{"verb", "forget"}, {"machine", clone.name}}).ok()) return;
  }
}

void take_back(const Clone& clone) {
  Domain domain(virDomainLookupByUUIDString(clone.connection, clone.uuid.c_str()));
  if (domain && virDomainIsActive(domain.get()) == 1) virDomainDestroy(domain.get());
  if (domain && virDomainIsPersistent(domain.get()) == 1)
    virDomainUndefineFlags(domain.get(), VIR_DOMAIN_UNDEFINE_NVRAM);
  forget(clone);
}

// Its guest has the original's addresses in memory.
ckpt::Status unplug(virDomain* domain, const std::vector<std::string>& cards) {
  for (const auto& card : cards)
    if (virDomainUpdateDeviceFlags(domain, card.c_str(), VIR_DOMAIN_AFFECT_LIVE) < 0)
      return libvirt_error("unplugging its network card");
  return {};
}

ckpt::Result<Domain> restore(const Clone& clone) {
  if (virDomainRestore(clone.connection, clone.image_file.c_str()) < 0) return libvirt_error("libvirt");
  Domain domain(virDomainLookupByUUIDString(clone.connection, clone.uuid.c_str()));
  if (!domain) return libvirt_error("the clone");
  return domain;
}

// `image`: its XML with the point in it.
ckpt::Result<Json> make(const Clone& clone, const CloneWish& wish, const Recorded& stored, const std::string& image) {
  CKPT_ASSIGN(std::string definition, with_disks(image, {}));
  CKPT_ASSIGN(auto cards, unplugged_cards(definition));
  CKPT_ASSIGN(auto named, parse_image(image));
  if (!wish.transient)
    if (Domain defined(virDomainDefineXML(clone.connection, definition.c_str())); !defined)
      return libvirt_error("libvirt does not define it");
  const bool runs = stored.ran && !wish.paused, held = !wish.connected && !cards.empty();
  CKPT_TRY(ckptd::make_libvirt_directory(clone.run_dir));
  CKPT_TRY(os::write_file(clone.image_file, save_image(image, runs && !held, stored.device_state)));
  CKPT_ASSIGN(Domain domain, restore(clone));
  CKPT_ASSIGN(std::string live, xml_of(domain.get(), 0));
  if (held) {
    CKPT_ASSIGN(cards, unplugged_cards(live));
    CKPT_TRY(unplug(domain.get(), cards));
    if (runs && virDomainResume(domain.get()) < 0) return libvirt_error("it does not run on");
  }
  CKPT_ASSIGN(auto macs, macs_of(live));
  CKPT_ASSIGN(auto disks, disks_of(live));
  Json files = Json::array();
  for (const auto& disk : named->disks) files.push_back(disks[disk.target].file);
  return Json{{"domain", clone.name},
              {"uuid", clone.uuid},
              {"source", ckpt::to_string(stored.id)},
              {"wall_clock_ns", stored.wall_clock_ns},
              {"state", runs ? "running" : "paused"},
              {"persistent", !wish.transient},
              {"connected", !held},
              {"macs", macs},
              {"disks", files}};
}

}  // namespace

ckpt::Result<Json> clone_domain(const std::string& uri, const ckptd::RunDir& run_dir, const CloneWish& wish) {
  CKPT_ASSIGN(Connection connection, connect(uri));
  CKPT_TRY(check_new(connection.get(), run_dir, wish.name));
  CKPT_ASSIGN(Recorded stored, read_recorded(run_dir, wish.machine, wish.point));
  CKPT_ASSIGN(std::string uuid, random_uuid());
  CKPT_ASSIGN(std::string generation, random_uuid());
  const std::string point = ckpt::to_string(stored.id);
  auto xml = clone_xml(stored.domain_xml, {wish.name, uuid, generation});
  if (xml.ok()) xml = image_xml(*xml, {stored.id.machine, stored.id.number, stored.disks, stored.uuid});
  if (!xml.ok()) return make_error(xml.error().code, point + ": " + xml.error().message());
  const Clone clone{connection.get(), run_dir, wish.name, uuid, run_dir.libvirt_image(uuid)};
  auto made = make(clone, wish, stored, *xml);
  ::unlink(clone.image_file.c_str());
  if (made.ok()) return made;
  take_back(clone);
  return make_error(made.error().code, "'" + wish.name + "' is not made from " + point + ": " + made.error().message());
}

}  // namespace libvirt_hooks
