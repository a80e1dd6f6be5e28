// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "ckpt/result.h"
#include "common/paths.h"
#include "connection.h"

namespace libvirt_hooks {

// Its file is what libvirt says of the domain now, whoever writes beside us.
ckpt::Status follow_domain(virConnect* connection, const std::string& uuid, const ckptd::RunDir& run_dir);

// Follows all domains, through libvirtd's restarts too, until process `parent` has ended.
void follow_domains(const std::string& uri, const ckptd::RunDir& run_dir, int parent);

}  // namespace libvirt_hooks
