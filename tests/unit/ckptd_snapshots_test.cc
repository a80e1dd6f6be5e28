// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which points are snapshots of libvirt's, and which of them each goes back to.
#include <gtest/gtest.h>

#include "daemon/libvirt_snapshots.h"

namespace ckptd {
namespace {

ckpt::CheckpointInfo kept(std::uint64_t number, std::uint64_t parent, const std::string& name = "") {
  ckpt::CheckpointInfo info;
  info.id = {"web1", number};
  info.parent = {"web1", parent};
  info.name = name;
  return info;
}

std::vector<std::string> names(const std::vector<ckpt::CheckpointInfo>& points) {
  std::vector<std::string> found;
  for (const auto& point : points) found.push_back(point.name);
  return found;
}

TEST(Snapshots, AreThePointsWithNames) {
  EXPECT_EQ(names(snapshot_points({kept(1, 0, "a"), kept(2, 1), kept(3, 2, ".hidden"), kept(4, 3, "b")})),
            (std::vector<std::string>{"a", "b"}));
}

TEST(Snapshots, OfManyAreTheNewest) {
  std::vector<ckpt::CheckpointInfo> all;
  for (std::uint64_t number = 1; number <= 70; ++number)
    all.push_back(kept(number, number - 1, "p" + std::to_string(number)));
  auto points = snapshot_points(all);
  ASSERT_EQ(points.size(), 64u);
  EXPECT_EQ(points.front().name, "p7");
  EXPECT_EQ(points.back().name, "p70");
}

TEST(Snapshots, GoBackToTheNearestPointThatTheMachineWentOnFrom) {
  // 3 and what follows it was left for 2 again, which 5 went on from; 6 and 7 are no longer kept.
  const std::vector<ckpt::CheckpointInfo> all = {kept(1, 0),      kept(2, 1, "a"), kept(3, 2, "b"),
                                                 kept(5, 2, "c"), kept(8, 7, "d"), kept(9, 8)};
  const auto points = snapshot_points(all);
  auto parent_of = [&](std::size_t point) { return snapshot_parent(points[point], all, points); };
  EXPECT_EQ(parent_of(0), "");
  EXPECT_EQ(parent_of(1), "a");
  EXPECT_EQ(parent_of(2), "a");
  EXPECT_EQ(parent_of(3), "c");
}

TEST(Snapshots, OfAnotherMachineAreNoParents) {
  auto first = kept(1, 0, "a"), other = kept(5, 1, "b");
  other.parent.machine = "web0";
  EXPECT_EQ(snapshot_parent(other, {first, other}, {first, other}), "");
}

}  // namespace
}  // namespace ckptd
