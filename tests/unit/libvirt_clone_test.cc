// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A clone's XML: nothing in it is the original's that two machines on one host would fight over, and all else is.
#include <gtest/gtest.h>

#include <algorithm>

#include "clone_xml.h"
#include "domain_xml.h"
#include "restore_xml.h"

namespace libvirt_hooks {
namespace {

constexpr const char* uuid = "6b0a2f4c-3c0e-4d9e-9a43-0d6f6a6a1c11";
constexpr const char* own_uuid = "11111111-2222-4333-8444-5555ffffffff";
constexpr const char* own_generation = "bbbbbbbb-2222-4333-8444-555555555555";
constexpr const char* vda = "/machine/peripheral/virtio-disk0/virtio-backend";

std::string recorded() {
  return "<domain type='kvm' id='3'><name>web1</name><uuid>" + std::string(uuid) +
         "</uuid><genid>aaaaaaaa-3c0e-4d9e-9a43-0d6f6a6a1c11</genid><title>The shop</title>"
         "<metadata><ckpt:protection xmlns:ckpt='urn:x-ckpt:domain:1' interval='5s' machine='shop'/></metadata>"
         "<sysinfo type='smbios'><system><entry name='uuid'>" +
         uuid +
         "</entry><entry name='serial'>77</entry></system></sysinfo><devices>"
         "<emulator>/opt/bin/ckpt-qemu-system-x86_64</emulator>"
         "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/images/web1.raw'/>"
         "<target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>"
         "<interface type='bridge'><mac address='52:54:00:aa:bb:cc'/><source bridge='br0'/>"
         "<virtualport type='openvswitch'><parameters "
         "interfaceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/></virtualport>"
         "<target dev='web1-tap'/><model type='virtio'/></interface>"
         "<interface type='network'><mac address='52:54:00:aa:bb:cd'/><source network='n'/><link state='down'/>"
         "</interface>"
         "<serial type='file'><source path='/logs/web1 &amp; co.log'/><log file='/logs/more.log' append='on'/></serial>"
         "<serial type='pty'><source path='/dev/pts/3'/></serial>"
         "<console type='unix'><source mode='bind' path='/run/web1.sock'/></console>"
         "<channel type='unix'><source mode='bind' path='/run/libvirt/channel/3-web1/org.qemu.guest_agent.0'/>"
         "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
         "<channel type='unix'><source mode='connect' path='/run/peer.sock'/>"
         "<target type='virtio' name='peer'/></channel>"
         "<graphics type='vnc' port='5901' autoport='no' websocket='5701' listen='127.0.0.1'/></devices></domain>";
}

std::string clone() {
  auto made = clone_xml(recorded(), {"web2", own_uuid, own_generation});
  EXPECT_TRUE(made.ok()) << made.error().message();
  return made.ok() ? *made : "";
}

TEST(CloneXml, HasNothingThatTwoMachinesWouldFightOver) {
  const std::string xml = clone();
  for (const char* originals :
       {uuid, "<name>web1", "aaaaaaaa-3c0e", "aa:bb:c", "web1-tap", "09b11c53", "\"/logs/web1", "\"/logs/more",
        "\"/run/web1.sock", "/run/libvirt/channel", "machine=", "5901", "5701", "autoport=\"no\""})
    EXPECT_EQ(xml.find(originals), std::string::npos) << originals;
}

TEST(CloneXml, HasWhatIsItsOwnAndAllElseOfTheOriginal) {
  const std::string xml = clone();
  for (const char* own : {"<name>web2</name>", "<uuid>11111111-2222-4333-8444-5555ffffffff</uuid>",
                          "<genid>bbbbbbbb-2222-4333-8444-555555555555<", "52:54:00:ff:ff:ff", "52:54:00:00:00:00",
                          "\"/logs/web2.web1 &amp; co.log\"", "\"/logs/web2.more.log\"", "\"/run/web2.web1.sock\"",
                          "autoport=\"yes\"", "<entry name=\"uuid\">11111111-2222-4333-8444-5555ffffffff</entry>"})
    EXPECT_NE(xml.find(own), std::string::npos) << own << " in " << xml;
  for (const char* kept : {"The shop", "interval=\"5s\"", "/images/web1.raw", "/dev/pts/3", "\"/run/peer.sock\"",
                           "bridge=\"br0\"", "<entry name=\"serial\">77</entry>", "listen=\"127.0.0.1\""})
    EXPECT_NE(xml.find(kept), std::string::npos) << kept;
  auto domain = parse_domain_xml(xml);
  ASSERT_TRUE(domain.ok() && domain->protection);
  EXPECT_EQ(domain->protection->machine, "web2");
  EXPECT_EQ(domain->protection->error, "");
}

TEST(CloneXml, ItsImageSaysWhoseItIsAndItsDisksHaveItsName) {
  auto image = image_xml(clone(), {"shop", 42, {vda}, uuid});
  ASSERT_TRUE(image.ok()) << image.error().message();
  auto parsed = parse_image(*image);
  ASSERT_TRUE(parsed.ok() && *parsed) << parsed.error().message();
  EXPECT_EQ((*parsed)->clone_of, uuid);
  EXPECT_EQ((*parsed)->machine, "shop");
  EXPECT_EQ((*parsed)->domain.machine, "web2");
  EXPECT_EQ((*parsed)->domain.uuid, own_uuid);
  ASSERT_EQ((*parsed)->disks.size(), 1u);
  EXPECT_EQ((*parsed)->disks[0].file, "/images/web2.vda.42.qcow2");
  auto definition = with_disks(*image, {});
  ASSERT_TRUE(definition.ok());
  EXPECT_FALSE(may_be_image(*definition));
  EXPECT_EQ((*disks_of(*definition))["vda"].file, "/images/web2.vda.42.qcow2");
}

TEST(CloneXml, AnImageThatDoesNotSayWhoseItIsIsRefused) {
  const std::string good = *image_xml(clone(), {"shop", 42, {vda}, uuid});
  for (const char* said : {"", "web1", "-"}) {
    std::string edited = good;
    const std::string from = std::string("clone-of=\"") + uuid;
    edited.replace(edited.find(from), from.size(), std::string("clone-of=\"") + said);
    EXPECT_FALSE(parse_image(edited).ok()) << said;
  }
}

TEST(CloneXml, UnpluggedAreTheCardsThatWerePluggedIn) {
  auto cards = unplugged_cards(clone());
  ASSERT_TRUE(cards.ok());
  ASSERT_EQ(cards->size(), 1u);
  EXPECT_NE(cards->front().find("52:54:00:ff:ff:ff"), std::string::npos);
  EXPECT_NE(cards->front().find("<link state=\"down\"/>"), std::string::npos) << cards->front();
  auto macs = macs_of(clone());
  ASSERT_TRUE(macs.ok());
  EXPECT_EQ(*macs, (std::vector<std::string>{"52:54:00:ff:ff:ff", "52:54:00:00:00:00"}));
}

TEST(CloneXml, WhatCannotBeClonedIsRefused) {
  std::string unprotected = recorded();
  unprotected.replace(unprotected.find("urn:x-ckpt:domain:1"), 19, "urn:x-other:thing:1");
  EXPECT_FALSE(clone_xml(unprotected, {"web2", own_uuid, own_generation}).ok());
  EXPECT_FALSE(clone_xml("<domain/>", {"web2", own_uuid, own_generation}).ok());
  EXPECT_FALSE(clone_xml("", {"web2", own_uuid, own_generation}).ok());
  EXPECT_FALSE(clone_xml(recorded(), {"web2", "no", own_generation}).ok());
}

}  // namespace
}  // namespace libvirt_hooks
