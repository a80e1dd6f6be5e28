// SPDX-License-Identifier: LGPL-2.1-or-later
#include "freeze.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;

ckpt::Status DomainFreezer::find() {
  // libvirtd may have been started again since.
  if (connection_ && virConnectIsAlive(connection_.get()) != 1) {
    domain_.reset();
    connection_.reset();
  }
  if (!connection_) {
    CKPT_ASSIGN(connection_, connect(uri_));
  }
  if (!domain_) domain_.reset(virDomainLookupByUUIDString(connection_.get(), uuid_.c_str()));
  if (!domain_) return libvirt_error("domain " + uuid_);
  const int active = virDomainIsActive(domain_.get());
  if (active < 0) return libvirt_error("domain " + uuid_);
  if (active == 0) return make_error(Code::not_found, "the domain does not run");
  return {};
}

ckpt::Result<std::uint64_t> DomainFreezer::freeze(bool& asked) {
  if (auto found = find(); !found.ok()) return make_error(Code::unavailable, found.error().message());
  // An agent that is missing, hangs, or is frozen by somebody else says so here, before anything is asked of it that
  // libvirt waits for without limit.
  long long seconds = 0;
  unsigned nanoseconds = 0;
  if (virDomainGetTime(domain_.get(), &seconds, &nanoseconds, 0) < 0)
    return make_error(Code::unavailable, libvirt_error("its guest agent").message() +
                                             ": qemu-guest-agent must run in the guest, whose file systems nobody else "
                                             "may have frozen (virsh domfsthaw)");
  asked = true;
  const int frozen = virDomainFSFreeze(domain_.get(), nullptr, 0, 0);
  if (frozen < 0) return make_error(Code::refused, libvirt_error("its guest agent does not freeze it").message());
  return static_cast<std::uint64_t>(frozen);
}

ckpt::Result<std::uint64_t> DomainFreezer::thaw() {
  CKPT_TRY(find());
  const int thawed = virDomainFSThaw(domain_.get(), nullptr, 0, 0);
  if (thawed < 0) return make_error(Code::unavailable, libvirt_error("its guest agent does not thaw it").message());
  return static_cast<std::uint64_t>(thawed);
}

}  // namespace libvirt_hooks
