// SPDX-License-Identifier: LGPL-2.1-or-later
//
// RUN_DIR/libvirt: what hook and bridge leave for ckptd and the launcher. Each file is replaced as a whole, by whoever
// comes.
#pragma once

#include <string>

#include "common/paths.h"
#include "domain_xml.h"

namespace libvirt_hooks {

// The domain runs, or is about to, with this XML: its file says so, or goes when it has no protection element. What is
// wrong with it here, QEMU's user for one, is noted in `domain` too.
ckpt::Status put_domain(const ckptd::RunDir& run_dir, DomainXml& domain);
// For the launcher of its QEMU.
ckpt::Status put_restore(const ckptd::RunDir& run_dir, const ckptd::LibvirtDomain& domain, const ckptd::Json& restore);
// It does not run.
void drop_domain(const ckptd::RunDir& run_dir, const std::string& uuid);

}  // namespace libvirt_hooks
