// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What ckptctl understands of QEMU's command line, and what it refuses.
#include <gtest/gtest.h>

#include <algorithm>

#include "common/qemu_command.h"
#include "common/text.h"

namespace ckptd {
namespace {

using Words = std::vector<std::string>;

QemuCommand parsed(const Words& argv) {
  auto command = QemuCommand::parse(argv);
  EXPECT_TRUE(command.ok()) << command.error().context;
  return command.ok() ? command.take() : *QemuCommand::parse({"qemu"});
}

std::string refusal(const Words& argv) {
  auto command = QemuCommand::parse(argv);
  EXPECT_FALSE(command.ok()) << join(argv, " ");
  return command.ok() ? "" : command.error().context;
}

bool contains(const Words& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

TEST(QemuCommand, LeavesWhatItDoesNotTouch) {
  Words argv = {"qemu", "-m", "512", "-nographic", "-append", "root=/dev/vda -drive x", "--device", "e1000,mac=1"};
  EXPECT_EQ(join(parsed(argv).argv(), " "),
            "qemu -m 512 -nographic -append root=/dev/vda -drive x -device e1000,mac=1");
}

TEST(QemuCommand, GivesDrivesNamesThatStay) {
  auto command =
      parsed({"qemu", "-hda", "/a.img", "-drive", "file=/b,,c.qcow2,format=qcow2,if=virtio", "-drive",
              "file=/d,id=data,if=none", "-cdrom", "/cd.iso", "-drive", "if=none,id=empty,media=cdrom", "/first.img"});
  ASSERT_EQ(command.disks().size(), 5u);
  EXPECT_EQ(command.disks()[0].name, "disk0");
  EXPECT_EQ(command.disks()[1].name, "disk1");
  EXPECT_EQ(command.disks()[1].file, "/b,c.qcow2");
  EXPECT_EQ(command.disks()[1].format, "qcow2");
  EXPECT_EQ(command.disks()[2].name, "data");
  EXPECT_TRUE(command.disks()[3].read_only);
  // A second reading, as at a restore, finds the same names.
  auto again = parsed(command.argv());
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(again.disks()[i].name, command.disks()[i].name);
}

TEST(QemuCommand, RefusesWhatWouldReadDifferentlyWhenWrittenAgain) {
  EXPECT_NE(refusal({"qemu", "-drive", "if=none,=x"}).find("has no name"), std::string::npos);
  EXPECT_NE(refusal({"qemu", "-device", ",{x"}).find("has no name"), std::string::npos);
  EXPECT_NE(refusal({"qemu", "-drive", "file=/a,i.b,,format=raw"}).find("has no name"), std::string::npos);
  EXPECT_NE(refusal(Words(5000, "-S")).find("4096"), std::string::npos);
  EXPECT_EQ(refusal({"qemu", "---drive", "file=/a.img"}), "QEMU has no option ---drive");
}

TEST(QemuCommand, ReplacesADrive) {
  auto command = parsed({"qemu", "-drive", "file=/a.img,format=raw,if=virtio,cache=none,id=d"});
  ASSERT_TRUE(command.replace_disk("d", "/o,1.qcow2").ok());
  EXPECT_EQ(command.argv()[2], "file=/o,,1.qcow2,format=qcow2,if=virtio,cache=none,id=d");
  EXPECT_EQ(command.replace_disk("nonesuch", "/x").error().code, ckpt::Code::not_found);
}

TEST(QemuCommand, ReplacesABlockdevWithWhatLiesBelow) {
  auto command =
      parsed({"qemu", "-blockdev", "driver=file,node-name=f0,filename=/a.qcow2,aio=native", "-blockdev",
              "driver=qcow2,node-name=n0,file=f0,discard=unmap,cache.direct=on,l2-cache-size=1M", "-device",
              "virtio-blk-pci,drive=n0,id=v0", "-device", "scsi-hd,drive=n1", "-blockdev",
              R"({"driver":"raw","node-name":"n1","read-only":false,"file":{"driver":"file","filename":"/b.img"}})"});
  ASSERT_EQ(command.disks().size(), 2u);
  EXPECT_EQ(command.disks()[0].name, "v0");
  EXPECT_EQ(command.disks()[0].file, "/a.qcow2");
  EXPECT_EQ(command.disks()[1].name, "blockdev0");
  EXPECT_EQ(command.disks()[1].file, "/b.img");
  ASSERT_TRUE(command.replace_disk(command.disks()[0].name, "/o0").ok());
  ASSERT_TRUE(command.replace_disk("blockdev0", "/o1").ok());
  auto argv = command.argv();
  EXPECT_EQ(std::count(argv.begin(), argv.end(), "-blockdev"), 2);
  EXPECT_TRUE(
      contains(argv, "node-name=n0,discard=unmap,cache.direct=on,driver=qcow2,file.driver=file,file.filename=/o0"))
      << join(argv, " ");
  EXPECT_TRUE(contains(
      argv, R"({"driver":"qcow2","file":{"driver":"file","filename":"/o1"},"node-name":"n1","read-only":false})"))
      << join(argv, " ");
}

TEST(QemuCommand, RefusesWhatItCouldNotBuildAgain) {
  EXPECT_NE(refusal({}).find("no QEMU command line"), std::string::npos);
  EXPECT_NE(refusal({"qemu", "-m"}).find("lacks its value"), std::string::npos);
  for (const char* option : {"-snapshot", "-daemonize", "-preconfig"})
    EXPECT_NE(refusal({"qemu", option}).find(option), std::string::npos);
  for (const char* option : {"-incoming", "-loadvm", "-readconfig"})
    EXPECT_NE(refusal({"qemu", option, "x"}).find(option), std::string::npos);
  EXPECT_NE(refusal({"qemu", "-object", "checkpoint-stream,id=c,path=/x"}).find("ckptctl adds itself"),
            std::string::npos);
  EXPECT_NE(refusal({"qemu", "-drive", "file=/a,snapshot=on"}).find("snapshot=on"), std::string::npos);
  EXPECT_NE(refusal({"qemu", "-drive", "file=/a,id=x", "-drive", "file=/b,id=x"}).find("two disks"), std::string::npos);
  EXPECT_NE(refusal({"qemu", "-blockdev", "driver=throttle,node-name=t,file=f", "-device", "ide-hd,drive=t"})
                .find("throttle"),
            std::string::npos);
  EXPECT_NE(refusal({"qemu", "-blockdev", "driver=raw,node-name=t,file=f", "-device", "ide-hd,drive=t"})
                .find("no -blockdev has"),
            std::string::npos);
  EXPECT_NE(refusal({"qemu", "-device", "{\"driver\":"}).find("not JSON"), std::string::npos);
}

TEST(QemuCommand, WritesWhatItAddsSoThatACommaStaysInItsValue) {
  EXPECT_EQ(object_option(stream_object("/r,1/vm.sock", "a/00@2")),
            "checkpoint-stream,base=a/00@2,id=ckpt0,path=/r,,1/vm.sock");
  auto command = parsed({"qemu"});
  command.add_qmp("/r,1/vm.qmp");
  EXPECT_EQ(join(command.argv(), " "), "qemu -qmp unix:/r,,1/vm.qmp,server=on,wait=off");
}

TEST(QemuCommand, FindsTheGuestAgentAndRenewsTheGenerationId) {
  auto command = parsed({"qemu", "-chardev", "socket,path=/ga.sock,server=on,wait=off,id=ga", "-device",
                         "virtserialport,chardev=ga,name=org.qemu.guest_agent.0", "-device",
                         "vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87,id=g"});
  EXPECT_EQ(command.guest_agent_socket(), "/ga.sock");
  command.renew_generation_id();
  EXPECT_TRUE(contains(command.argv(), "vmgenid,guid=auto,id=g"));
}

}  // namespace
}  // namespace ckptd
