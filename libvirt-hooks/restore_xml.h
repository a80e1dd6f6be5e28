// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Domain XML that names a checkpoint to restore (doc/libvirt.md, Native restore): how an image's is made, what it says,
// and what the machine then runs with. The text is hostile, as all domain XML.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "domain_xml.h"

namespace libvirt_hooks {

inline constexpr std::string_view restore_namespace = "urn:x-ckpt:restore:1";

struct ImageDisk {
  std::string target;  // "vda", or ckptd::nvram_target
  std::string name;    // in the checkpoint
  std::string file;    // where its new image is to be
};

struct Image {
  ckptd::LibvirtDomain domain;  // with a policy, and without error
  std::string machine;          // whose checkpoint it is
  std::uint64_t checkpoint = 0;
  std::string clone_of;  // UUID of the domain that it is a clone of; empty: it is that domain
  std::vector<ImageDisk> disks;
};

// True for every text that parse_image() can find an image in, of any version; quick.
bool may_be_image(std::string_view xml);
// Nothing: it names no checkpoint. Errors: what it says cannot be carried out.
ckpt::Result<std::optional<Image>> parse_image(std::string_view xml);

struct Point {
  std::string machine;
  std::uint64_t checkpoint = 0;
  std::vector<std::string> disks;  // their names in it
  std::string clone_of;            // as in Image: the XML is a clone's, of clone_xml()
};
// The image's XML from the one that the checkpoint holds. Errors: refused: a disk of the one is none of the other.
ckpt::Result<std::string> image_xml(const std::string& domain_xml, const Point& point);

struct PlacedDisk {
  std::string target, file;
  std::string socket;  // where what is not in the file yet is served; empty: nowhere
};
// The XML without what names the checkpoint, and with these disks.
ckpt::Result<std::string> with_disks(const std::string& domain_xml, const std::vector<PlacedDisk>& disks);

struct Disk {
  std::string file;          // empty: it has none
  bool stands_alone = true;  // nothing lies below it
};
// By target.
ckpt::Result<std::map<std::string, Disk>> disks_of(const std::string& domain_xml);

}  // namespace libvirt_hooks
