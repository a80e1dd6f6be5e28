// SPDX-License-Identifier: LGPL-2.1-or-later
//
// An image's XML, from the recorded one to what libvirt runs: it is what it was, but for its disks; and what is edited
// against the checkpoint is refused, in words.
#include <gtest/gtest.h>

#include <cstring>

#include "golden.h"
#include "image.h"
#include "restore_xml.h"

namespace libvirt_hooks {
namespace {

constexpr const char* uuid = "6b0a2f4c-3c0e-4d9e-9a43-0d6f6a6a1c11";
constexpr const char* vda = "/machine/peripheral/virtio-disk0/virtio-backend";

std::string recorded() {
  return "<domain type='kvm' id='3'><name>web1</name><uuid>" + std::string(uuid) +
         "</uuid><metadata><ckpt:protection xmlns:ckpt='urn:x-ckpt:domain:1' interval='1s'/></metadata><devices>"
         "<emulator>/opt/bin/ckpt-qemu-system-x86_64</emulator>"
         "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source "
         "file='/images/a&amp;b.raw'/>"
         "<backingStore/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>"
         "<disk type='block' device='disk'><source dev='/dev/vg/b'/><target dev='vdb'/><alias "
         "name='virtio-disk1'/></disk>"
         "<disk type='file' device='cdrom'><source file='/images/install.iso'/><target dev='sda'/><readonly/>"
         "<alias name='sata0-0-0'/></disk></devices></domain>";
}

std::string image_of(const std::string& xml) {
  auto made = image_xml(xml, {"web1", 42, {"virtio-disk1", vda}, ""});
  EXPECT_TRUE(made.ok()) << made.error().message();
  return made.ok() ? *made : "";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(RestoreXml, AnImageNamesItsPointAndTheNewDisks) {
  auto image = parse_image(image_of(recorded()));
  ASSERT_TRUE(image.ok() && *image) << image.error().message();
  const Image& found = **image;
  EXPECT_EQ(found.machine, "web1");
  EXPECT_EQ(found.checkpoint, 42u);
  EXPECT_EQ(found.domain.uuid, uuid);
  EXPECT_EQ(found.domain.machine, "web1");
  ASSERT_EQ(found.disks.size(), 2u);
  EXPECT_EQ(found.disks[0].name, vda);
  EXPECT_EQ(found.disks[0].file, "/images/web1.vda.42.qcow2");
  EXPECT_EQ(found.disks[1].target, "vdb");
  EXPECT_EQ(found.disks[1].name, "virtio-disk1");
  EXPECT_EQ(found.disks[1].file, "/var/lib/libvirt/images/web1.vdb.42.qcow2");
}

TEST(RestoreXml, WhatRunsHasItsDisksAndNoWordOfThePoint) {
  auto run =
      with_disks(image_of(recorded()), {{"vda", "/images/new & old.qcow2", "/run/ckpt/restore/web1/disk-0.sock"}});
  ASSERT_TRUE(run.ok()) << run.error().message();
  EXPECT_FALSE(may_be_image(*run)) << *run;
  EXPECT_NE(run->find("urn:x-ckpt:domain:1"), std::string::npos);
  EXPECT_NE(run->find("cache=\"none\""), std::string::npos) << "the driver's other words stay";
  auto disks = disks_of(*run);
  ASSERT_TRUE(disks.ok());
  EXPECT_EQ((*disks)["vda"].file, "/images/new & old.qcow2");
  EXPECT_FALSE((*disks)["vda"].stands_alone);
  EXPECT_TRUE((*disks)["vdb"].stands_alone);
  EXPECT_EQ((*disks)["sda"].file, "/images/install.iso");
}

TEST(RestoreXml, VariablesOfUefiAreADiskWithAFileOfItsOwn) {
  constexpr const char* flash = "/machine/system.flash1";
  const std::string os =
      "<os><loader readonly='yes' type='pflash'>/f/CODE.fd</loader><nvram template='/f/VARS.fd' "
      "format='raw'>/n/web1_VARS.fd"
      "</nvram></os><devices>";
  const std::string uefi = replaced(recorded(), "<devices>", os);
  auto made = image_xml(uefi, {"web1", 42, {"virtio-disk1", vda, flash}, ""});
  ASSERT_TRUE(made.ok()) << made.error().message();
  auto image = parse_image(*made);
  ASSERT_TRUE(image.ok() && *image) << image.error().message();
  ASSERT_EQ((*image)->disks.size(), 3u);
  EXPECT_EQ((*image)->disks[2].target, "nvram");
  EXPECT_EQ((*image)->disks[2].name, flash);
  EXPECT_EQ((*image)->disks[2].file, "/n/web1_VARS.42.fd");
  auto run = with_disks(*made, {{"nvram", "/n/web1_VARS.42-2.fd", ""}});
  ASSERT_TRUE(run.ok());
  EXPECT_NE(run->find("<nvram>/n/web1_VARS.42-2.fd</nvram>"), std::string::npos) << *run;
  auto disks = disks_of(*run);
  EXPECT_EQ((*disks)["nvram"].file, "/n/web1_VARS.42-2.fd");
  EXPECT_TRUE((*disks)["nvram"].stands_alone);

  auto unnamed = parse_image(replaced(*made, "<ckpt:disk target=\"nvram\" name=\"/machine/system.flash1\"/>", ""));
  ASSERT_FALSE(unnamed.ok());
  EXPECT_NE(unnamed.error().message().find("'nvram' of the domain is not named"), std::string::npos);
  EXPECT_FALSE(image_xml(uefi, {"web1", 42, {"virtio-disk1", vda}, ""}).ok()) << "variables that were not captured";
  EXPECT_FALSE(image_xml(recorded(), {"web1", 42, {"virtio-disk1", vda, flash}, ""}).ok()) << "no variables in the XML";
}

// What was written once stays readable.
TEST(RestoreXml, AnImageOfVersionOneIsRead) {
  auto bytes = ckpt::read_golden("libvirt/image.xml");
  auto image = parse_image({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  ASSERT_TRUE(image.ok() && *image) << image.error().message();
  EXPECT_EQ((*image)->machine, "shop-web1");
  EXPECT_EQ((*image)->checkpoint, 1234u);
  EXPECT_EQ((*image)->clone_of, "");
  ASSERT_EQ((*image)->disks.size(), 1u);
  EXPECT_EQ((*image)->disks[0].file, "/var/lib/libvirt/images/shop-web1.vda.1234.qcow2");
}

TEST(RestoreXml, AClonesImageOfVersionOneIsRead) {
  auto bytes = ckpt::read_golden("libvirt/clone.xml");
  auto image = parse_image({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  ASSERT_TRUE(image.ok() && *image) << image.error().message();
  EXPECT_EQ((*image)->clone_of, uuid);
  EXPECT_EQ((*image)->machine, "shop-web1");
  EXPECT_EQ((*image)->domain.machine, "web2");
}

TEST(RestoreXml, AnotherDomainIsLetThrough) {
  EXPECT_FALSE(may_be_image(recorded()));
  auto image = parse_image(recorded());
  ASSERT_TRUE(image.ok());
  EXPECT_FALSE(*image);
}

TEST(RestoreXml, ACheckpointWithOtherDisksMakesNoImage) {
  for (const std::vector<std::string>& names :
       {std::vector<std::string>{vda}, {vda, "virtio-disk1", "virtio-disk2"}, {"virtio-disk", "virtio-disk1"}}) {
    auto made = image_xml(recorded(), {"web1", 42, names, ""});
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code, ckpt::Code::refused);
  }
}

TEST(RestoreXml, WhatIsRefusedSaysWhatIsWrong) {
  const std::string good = image_of(recorded());
  const std::string second = "<r:restore xmlns:r='urn:x-ckpt:restore:1' machine='web1' checkpoint='1'/></metadata>";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {replaced(good, "checkpoint=\"42\"", "checkpoint=\"0\""), "no number"},
      {replaced(good, "checkpoint=\"42\"", "checkpoint=\"42x\""), "no number"},
      {replaced(good, "checkpoint=\"42\"", "checkpoint=\"99999999999999999999\""), "no number"},
      {replaced(good, "checkpoint=\"42\"", ""), "'checkpoint' is missing"},
      {replaced(good, "checkpoint=\"42\"", "checkpoint=\"42\" more=\"1\""), "unknown attribute 'more'"},
      {replaced(good, "machine=\"web1\"", "machine=\"a/b\""), "a/b"},
      {replaced(good, "urn:x-ckpt:restore:1", "urn:x-ckpt:restore:2"), "install a newer"},
      {replaced(good, "</metadata>", second), "several"},
      {replaced(good, "target=\"vda\"", "target=\"vdc\""), "no disk 'vdc'"},
      {replaced(good, "target=\"vda\"", "target=\"vdb\""), "twice"},
      {replaced(good, "<ckpt:disk target=\"vdb\" name=\"virtio-disk1\"/>", ""), "'vdb' of the domain is not named"},
      {replaced(good, "<ckpt:disk target=\"vdb\"", "text<ckpt:disk target=\"vdb\""), "no <disk>"},
      {replaced(good, "urn:x-ckpt:domain:1", "urn:x-other"), "no protection element"},
      {replaced(good, "interval=\"1s\"", "interval=\"soon\""), "not a duration"},
      {good + "<", "XML"},
  };
  for (const auto& [xml, words] : cases) {
    auto image = parse_image(xml);
    ASSERT_FALSE(image.ok()) << words;
    EXPECT_NE(image.error().message().find(words), std::string::npos) << image.error().message();
  }
}

TEST(SaveImage, IsLibvirtsOwn) {
  std::string image = save_image("<domain/>", true, "QEVM");
  EXPECT_EQ(image.substr(0, 16), "LibvirtQemudSave");
  std::uint32_t fields[5];
  std::memcpy(fields, image.data() + 16, sizeof(fields));
  EXPECT_EQ(fields[0], 2u);
  EXPECT_EQ(fields[2], 1u);
  EXPECT_EQ(fields[3], 0u);
  EXPECT_EQ(fields[4], 0u);
  EXPECT_EQ(image.substr(92, 10), std::string("<domain/>\0", 10));
  EXPECT_EQ(image.substr(92 + fields[1]), "QEVM");
}

}  // namespace
}  // namespace libvirt_hooks
