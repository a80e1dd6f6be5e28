// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Edits of domains that run take effect at once. An event only says where to look: what counts is what libvirt answers
// then, so an event that is missed while libvirtd restarts costs nothing.
#include "follow.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <set>

#include "domain_files.h"
#include "domain_xml.h"

namespace libvirt_hooks {

namespace {

constexpr int reconnect_ms = 1'000;
// More changes than that within one look are for the next event.
constexpr int looks_limit = 8;

struct Follower {
  ckptd::RunDir run_dir;
  os::Fd parent;
  bool over = false;
  std::set<std::string> changed;  // by UUID
};

void on_change(Follower& follower, virDomain* domain) {
  if (auto uuid = uuid_of(domain); uuid.ok()) follower.changed.insert(*uuid);
}

int on_life(virConnect*, virDomain* domain, int, int, void* opaque) {
  on_change(*static_cast<Follower*>(opaque), domain);
  return 0;
}

void on_metadata(virConnect*, virDomain* domain, int, const char*, void* opaque) {
  on_change(*static_cast<Follower*>(opaque), domain);
}

ckpt::Status subscribe(virConnect* connection, Follower& follower) {
  if (virConnectDomainEventRegisterAny(connection, nullptr, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                       VIR_DOMAIN_EVENT_CALLBACK(on_life), &follower, nullptr) < 0 ||
      virConnectDomainEventRegisterAny(connection, nullptr, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                                       VIR_DOMAIN_EVENT_CALLBACK(on_metadata), &follower, nullptr) < 0)
    return libvirt_error("libvirt's events");
  return {};
}

// Those that run, and those that have a file: one of them may have ended unseen.
ckpt::Status look_at_all(virConnect* connection, Follower& follower) {
  virDomain** domains = nullptr;
  int count = virConnectListAllDomains(connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
  if (count < 0) return libvirt_error("libvirt's domains");
  for (int i = 0; i < count; ++i) {
    on_change(follower, domains[i]);
    virDomainFree(domains[i]);
  }
  std::free(domains);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(follower.run_dir.libvirt(), error))
    if (entry.path().extension() == ".json" && ckptd::is_uuid(entry.path().stem().string()))
      follower.changed.insert(entry.path().stem());
  return {};
}

ckpt::Status follow_on(virConnect* connection, Follower& follower) {
  // Events first: what changes while we look is looked at again.
  CKPT_TRY(subscribe(connection, follower));
  CKPT_TRY(look_at_all(connection, follower));
  while (!follower.over && virConnectIsAlive(connection) == 1) {
    while (!follower.changed.empty()) {
      std::string uuid = follower.changed.extract(follower.changed.begin()).value();
      CKPT_TRY(follow_domain(connection, uuid, follower.run_dir));
    }
    if (virEventRunDefaultImpl() < 0) return libvirt_error("libvirt's event loop");
  }
  return ckpt::make_error(ckpt::Code::unavailable, "libvirtd has gone");
}

// Waits in the event loop, so that the parent's end is noticed there.
void pause_for(int ms, Follower& follower) {
  bool due = false;
  int timer = virEventAddTimeout(
      ms, [](int, void* opaque) { *static_cast<bool*>(opaque) = true; }, &due, nullptr);
  while (!due && !follower.over && virEventRunDefaultImpl() == 0) continue;
  virEventRemoveTimeout(timer);
}

}  // namespace

ckpt::Status follow_domain(virConnect* connection, const std::string& uuid, const ckptd::RunDir& run_dir) {
  std::string written;
  for (int look = 0; look < looks_limit; ++look) {
    Domain domain(virDomainLookupByUUIDString(connection, uuid.c_str()));
    auto unknown = domain ? ckpt::Status() : ckpt::Status(libvirt_error("domain " + uuid));
    if (!unknown.ok() && unknown.error().code != ckpt::Code::not_found) return unknown;
    int active = domain ? virDomainIsActive(domain.get()) : 0;
    if (active < 0) return libvirt_error("domain " + uuid);
    if (active == 0) {
      drop_domain(run_dir, uuid);
      return {};
    }
    auto xml = xml_of(domain.get(), 0);
    // It has ended since.
    if (!xml.ok() && virDomainIsActive(domain.get()) != 1) continue;
    if (!xml.ok()) return xml.error();
    if (*xml == written) return {};
    auto parsed = parse_domain_xml(*xml);
    auto put = parsed.ok() ? put_domain(run_dir, *parsed) : ckpt::Status(parsed.error());
    if (!put.ok()) {
      std::cerr << "libvirt-bridge: domain " << uuid << ": " << put.error().message() << std::endl;
      return {};
    }
    written = *xml;
  }
  return {};
}

void follow_domains(const std::string& uri, const ckptd::RunDir& run_dir, int parent) {
  Follower follower;
  follower.run_dir = run_dir;
  follower.parent = os::Fd(static_cast<int>(::syscall(SYS_pidfd_open, parent, 0)));
  if (!follower.parent || virEventRegisterDefaultImpl() < 0) return;
  virEventAddHandle(
      follower.parent.get(), VIR_EVENT_HANDLE_READABLE,
      [](int, int, int, void* opaque) { static_cast<Follower*>(opaque)->over = true; }, &follower, nullptr);
  std::string complaint;
  while (!follower.over) {
    auto connection = connect(uri);
    auto ended = connection.ok() ? follow_on(connection->get(), follower) : ckpt::Status(connection.error());
    if (follower.over) return;
    if (ended.error().message() != complaint) std::cerr << "libvirt-bridge: " << ended.error().message() << std::endl;
    complaint = ended.error().message();
    pause_for(reconnect_ms, follower);
  }
}

}  // namespace libvirt_hooks
