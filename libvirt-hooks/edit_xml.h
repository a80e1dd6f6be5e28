// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Small changes of XML that libvirt gave; all else in it stays.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ckpt/result.h"

namespace libvirt_hooks {

// The protection element, or a new one when there is none (empty), with these attributes; those with an empty value
// stay as they are.
ckpt::Result<std::string> with_attributes(const std::string& element,
                                          const std::vector<std::pair<std::string, std::string>>& attributes);

// Empty: it has none of this name, or there is no element.
ckpt::Result<std::string> attribute_of(const std::string& element, const char* name);

// The domain's XML with this emulator; empty: it has a launcher of ckpt's already.
ckpt::Result<std::string> with_emulator(const std::string& domain_xml, const std::string& emulator);

}  // namespace libvirt_hooks
