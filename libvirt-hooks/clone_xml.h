// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The XML of a machine that is to run beside the one that it is a copy of (doc/libvirt.md, Clones).
#pragma once

#include <string>
#include <vector>

#include "ckpt/result.h"

namespace libvirt_hooks {

struct CloneIdentity {
  std::string name;
  std::string uuid;        // random: its last 24 bits are the first MAC address's too
  std::string generation;  // its VM generation ID, when the original has one; random
};

// All that two machines of one libvirt must not share is the clone's own; its disks are image_xml()'s to place. Errors:
// as of parse_domain_xml(), and refused: the domain has no protection element.
ckpt::Result<std::string> clone_xml(const std::string& domain_xml, const CloneIdentity& identity);

// Of the domain's network cards.
ckpt::Result<std::vector<std::string>> macs_of(const std::string& domain_xml);
// Its network cards that are plugged in, each as the XML of a device that is not.
ckpt::Result<std::vector<std::string>> unplugged_cards(const std::string& domain_xml);

}  // namespace libvirt_hooks
