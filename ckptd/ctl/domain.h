// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Machines that are domains of the libvirt that ckptd follows: how they are protected is in their XML.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ctl/commands.h"

namespace ckptd {

// `verb` is protect or unprotect. Nothing: ckptd follows no libvirt, or that has no domain of this name, or none with a
// protection element to take away.
ckpt::Result<std::optional<Json>> change_domain(const Context& context, const std::string& verb,
                                                const std::string& name, const PolicyOptions& options);
// What libvirt-bridge answers. Errors: its own, and io when it does not answer in time.
ckpt::Result<Json> ask_bridge(std::vector<std::string> arguments, std::int64_t limit_ms = 60'000);
// What has become of it, for people.
std::string domain_text(const Json& answer, const std::string& now);

}  // namespace ckptd
