// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Freezing and thawing a domain's file systems through libvirt, which owns the guest agent's socket.
#pragma once

#include <string>

#include "common/guest_freeze.h"
#include "connection.h"

namespace libvirt_hooks {

class DomainFreezer final : public ckptd::GuestFreezer {
public:
  DomainFreezer(std::string uri, std::string uuid) : uri_(std::move(uri)), uuid_(std::move(uuid)) {}

  ckpt::Result<std::uint64_t> freeze(bool& asked) override;
  ckpt::Result<std::uint64_t> thaw() override;

private:
  // Errors: not_found: it does not run.
  ckpt::Status find();

  const std::string uri_, uuid_;
  Connection connection_;
  Domain domain_;
};

}  // namespace libvirt_hooks
