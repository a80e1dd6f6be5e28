// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Snapshots as libvirt is told of them: nothing in them is named that libvirt would remove, and what the bridge notes
// of them is what the hook reads.
#include <gtest/gtest.h>

#include "golden.h"
#include "snapshot_points.h"
#include "snapshot_xml.h"
#include "temp_dir.h"

namespace libvirt_hooks {
namespace {

const std::string domain =
    "<domain type='kvm'><name>web1</name><devices><disk type='file' device='disk'><source file='/i/a&amp;b.qcow2'/>"
    "<target dev='vda'/></disk><disk type='file' device='cdrom'><target dev='sda'/></disk>"
    "<graphics type='spice' port='1'/><graphics type='vnc' port='2'/></devices></domain>";

TEST(SnapshotXml, NamesItsMemoryAndNoDiskOfItsOwn) {
  auto xml = snapshot_xml({.name = "a<b",
                           .parent = "p&q",
                           .description = "of ckpt",
                           .created_s = 1234,
                           .running = false,
                           .memory_file = "/s/17 & 18.save"},
                          domain);
  ASSERT_TRUE(xml.ok()) << xml.error().message();
  for (const char* words :
       {"<name>a&lt;b</name>", "<parent><name>p&amp;q</name></parent>", "<description>of ckpt</description>",
        "<state>paused</state>", "<creationTime>1234</creationTime>", "<disk name=\"vda\" snapshot=\"no\"/>",
        "<disk name=\"sda\" snapshot=\"no\"/>", "<source file=\"/i/a&amp;b.qcow2\"/>", "<memory snapshot=\"external\""})
    EXPECT_NE(xml->find(words), std::string::npos) << words << " in " << *xml;
  auto file = memory_file_of(*xml);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(*file, "/s/17 & 18.save");
}

TEST(SnapshotXml, OneWithoutMemoryIsNoneOfOurs) {
  auto file = memory_file_of("<domainsnapshot><memory snapshot='no'/></domainsnapshot>");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(*file, "");
  EXPECT_FALSE(memory_file_of("<domainsnapshot>").ok());
  EXPECT_FALSE(snapshot_xml({.name = "a"}, "<network/>").ok());
}

TEST(SnapshotXml, TheConsolesKeepTheirPasswords) {
  auto xml =
      with_passwords(domain,
                     "<domain><devices><graphics type='vnc' passwd='s&amp;t' passwdValidTo='2027-01-01T00:00:00'/>"
                     "<graphics type='vnc' passwd='other'/></devices></domain>");
  ASSERT_TRUE(xml.ok()) << xml.error().message();
  EXPECT_NE(xml->find("<graphics type=\"vnc\" port=\"2\" passwd=\"s&amp;t\" passwdValidTo=\"2027-01-01T00:00:00\"/>"),
            std::string::npos)
      << *xml;
  EXPECT_NE(xml->find("<graphics type=\"spice\" port=\"1\"/>"), std::string::npos) << *xml;
}

TEST(SnapshotXml, ItsDisksAreNoImagesOfOtherRestores) {
  EXPECT_EQ(snapshot_disk_file("/images/web1.vda.17.qcow2"), "/images/web1.vda.17.snapshot.qcow2");
}

TEST(SnapshotPoints, AreReadAsWritten) {
  ckpt::TempDir directory;
  SnapshotPoints points{.machine = "web1"};
  points.points[17] = {.snapshot = "before",
                       .wall_clock_ns = 1700000000123456789,
                       .published = true,
                       .disks = {{"vda", "virtio-disk0", "/i/web1.vda.17.snapshot.qcow2"}}};
  points.points[23] = {.snapshot = "after", .deleted = true};
  ASSERT_TRUE(write_points(directory / "points.json", points, os::Durable::no).ok());
  auto text = os::read_file(directory / "points.json", 1 << 20);
  ASSERT_TRUE(text.ok());
  ckpt::expect_golden("libvirt/points.json", ckpt::Bytes(text->begin(), text->end()));
  auto read = read_points(ckpt::golden_path("libvirt/points.json"));
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->machine, "web1");
  ASSERT_EQ(read->points.size(), 2u);
  EXPECT_TRUE(read->points[17].published && !read->points[17].deleted && read->points[23].deleted);
  ASSERT_EQ(read->points[17].disks.size(), 1u);
  EXPECT_EQ(read->points[17].disks[0].file, "/i/web1.vda.17.snapshot.qcow2");
}

TEST(SnapshotPoints, OfAnotherShapeAreRefused) {
  ckpt::TempDir directory;
  const std::string path = directory / "points.json";
  for (const char* text :
       {"", "[]", "{}", R"({"version":2,"machine":"a","points":[]})", R"({"version":1,"machine":"a/b","points":[]})",
        R"({"version":1,"machine":"a","points":{}})", R"({"version":1,"machine":"a","points":[1]})",
        R"({"version":1,"machine":"a","points":[{"number":"1","snapshot":"s"}]})",
        R"({"version":1,"machine":"a","points":[{"number":1}]})",
        R"({"version":1,"machine":"a","points":[{"number":1,"snapshot":"s","disks":[{"target":"vda"}]}]})"}) {
    ASSERT_TRUE(os::write_file(path, text).ok());
    auto read = read_points(path);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_NE(read.error().message().find("points.json"), std::string::npos) << read.error().message();
  }
}

}  // namespace
}  // namespace libvirt_hooks
