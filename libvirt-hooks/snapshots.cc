// SPDX-License-Identifier: LGPL-2.1-or-later
#include "snapshots.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include "common/restore_parts.h"
#include "common/restore_state.h"
#include "common/text.h"
#include "connection.h"
#include "image.h"
#include "snapshot_points.h"
#include "snapshot_xml.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::Json;

namespace {

// Older ones cannot revert to external snapshots.
constexpr unsigned long version_that_reverts = 9'010'000;
constexpr std::size_t wish_limit = 1024;
constexpr int file_tries = 1000;
// An image that nobody has written to is smaller.
constexpr off_t unwritten_limit_bytes = 1 << 20;

struct FreeSnapshot {
  void operator()(virDomainSnapshot* snapshot) const { virDomainSnapshotFree(snapshot); }
};
using SnapshotHandle = std::unique_ptr<virDomainSnapshot, FreeSnapshot>;

struct Wish {
  std::uint64_t number = 0, wall_clock_ns = 0;
  std::string name, parent;
  bool pinned = false;
};

struct Wishes {
  std::string machine, uuid, directory;
  std::vector<Wish> points;
};

ckpt::Result<Wishes> parse_wishes(const std::string& text) {
  CKPT_ASSIGN(Json json, ckptd::parse_object(text));
  Wishes wishes;
  CKPT_ASSIGN(wishes.machine, ckptd::required_string(json, "machine"));
  CKPT_ASSIGN(wishes.uuid, ckptd::required_string(json, "uuid"));
  CKPT_ASSIGN(wishes.directory, ckptd::required_string(json, "directory"));
  CKPT_TRY(ckptd::check_machine_name(wishes.machine));
  if (!ckptd::is_uuid(wishes.uuid)) return make_error(Code::invalid, "field 'uuid' is no UUID");
  const Json points = json.value("points", Json::array());
  if (!points.is_array() || points.size() > wish_limit) return make_error(Code::invalid, "field 'points' is no list");
  for (const Json& item : points) {
    if (!item.is_object()) return make_error(Code::invalid, "a point is no object");
    Wish& wish = wishes.points.emplace_back();
    CKPT_ASSIGN(wish.number, ckptd::number_field(item, "number"));
    CKPT_ASSIGN(wish.wall_clock_ns, ckptd::number_field(item, "wall_clock_ns"));
    CKPT_ASSIGN(wish.name, ckptd::required_string(item, "name"));
    CKPT_ASSIGN(wish.parent, ckptd::string_field(item, "parent"));
    wish.pinned = ckptd::flag_of(item, "pinned");
  }
  return wishes;
}

ckpt::Result<std::string> text_of_snapshot(virDomainSnapshot* snapshot, unsigned flags) {
  char* text = virDomainSnapshotGetXMLDesc(snapshot, flags);
  if (!text) return libvirt_error("a snapshot's XML");
  std::string xml = text;
  std::free(text);
  return xml;
}

ckpt::Result<std::map<std::string, SnapshotHandle>> list_snapshots(virDomain* domain) {
  virDomainSnapshot** all = nullptr;
  const int count = virDomainListAllSnapshots(domain, &all, 0);
  if (count < 0) return libvirt_error("the domain's snapshots");
  std::map<std::string, SnapshotHandle> found;
  for (int i = 0; i < count; ++i) found[virDomainSnapshotGetName(all[i])].reset(all[i]);
  std::free(all);
  return found;
}

// libvirt looks for a file where the image is to be, before anybody is asked to make it.
ckpt::Status keep_place(const std::string& file) {
  if (::access(file.c_str(), F_OK) == 0) return {};
  return os::write_file(file, "");
}

// Beside what is there already, which is somebody's disk.
ckpt::Result<std::string> free_disk_file(const std::string& image_file) {
  const std::string stem = image_file.substr(0, image_file.rfind('.')), suffix = image_file.substr(stem.size());
  for (int i = 1; i < file_tries; ++i) {
    std::string path = snapshot_disk_file(i == 1 ? image_file : stem + "-" + std::to_string(i) + suffix);
    struct stat existing;
    if (::lstat(path.c_str(), &existing) != 0) return path;
  }
  return make_error(Code::exists, snapshot_disk_file(image_file) + " and a thousand like it are there already");
}

class Publisher {
public:
  Publisher(const ckptd::RunDir& run_dir, Wishes wishes) : run_dir_(run_dir), wishes_(std::move(wishes)) {}

  ckpt::Result<Json> run(const std::string& uri);

private:
  std::string points_file() const { return wishes_.directory + "/points.json"; }
  std::string memory_file(std::uint64_t number) const {
    return wishes_.directory + "/" + std::to_string(number) + ".save";
  }
  ckpt::Status find_domain(const std::string& uri);
  ckpt::Status load();
  ckpt::Status save();
  ckpt::Status look();
  ckpt::Status withdraw(std::uint64_t number);
  void drop_files(std::uint64_t number);
  void drop_unwished();
  ckpt::Status publish(const Wish& wish);
  ckpt::Status define(const Wish& wish, const Recorded& recorded, const std::string& domain_xml);
  ckpt::Result<std::vector<PlacedDisk>> place(const Recorded& recorded, const std::optional<Image>& image) const;
  ckpt::Status keep_files(std::uint64_t number, const Recorded* recorded = nullptr) const;
  ckpt::Status make_one_current();
  void note(std::uint64_t number, const ckpt::Status& status) {
    if (!status.ok())
      troubles_.push_back(wishes_.machine + "@" + std::to_string(number) + ": " + status.error().message());
  }

  const ckptd::RunDir run_dir_;
  const Wishes wishes_;
  Connection connection_;
  Domain domain_;        // null: libvirt has none, or it is not protected any more
  std::string present_;  // its XML
  SnapshotPoints kept_;
  std::map<std::uint64_t, SnapshotHandle> ours_;  // that libvirt has
  std::set<std::string> others_;                  // names that are taken
  Json to_pin_ = Json::array(), troubles_ = Json::array();
};

ckpt::Status Publisher::find_domain(const std::string& uri) {
  CKPT_ASSIGN(connection_, connect(uri));
  unsigned long version = 0;
  if (virConnectGetLibVersion(connection_.get(), &version) < 0) return libvirt_error("libvirt's version");
  if (version < version_that_reverts)
    return make_error(Code::refused,
                      "this libvirt is older than 9.10, which cannot revert to them: 'virsh restore' an image of "
                      "'ckptctl image'");
  domain_.reset(virDomainLookupByUUIDString(connection_.get(), wishes_.uuid.c_str()));
  if (!domain_) {
    auto error = libvirt_error("domain " + wishes_.uuid);
    return error.code == Code::not_found ? ckpt::Status() : ckpt::Status(error);
  }
  CKPT_ASSIGN(present_, xml_of(domain_.get(), VIR_DOMAIN_XML_SECURE));
  return {};
}

ckpt::Status Publisher::load() {
  auto read = read_points(points_file());
  if (!read.ok() && read.error().code != Code::not_found) return read.error();
  if (read.ok()) kept_ = read.take();
  kept_.machine = wishes_.machine;
  return {};
}

ckpt::Status Publisher::save() {
  if (kept_.points.empty()) {
    ::unlink(points_file().c_str());
    ::unlink(run_dir_.libvirt_snapshots(wishes_.uuid).c_str());
    ::rmdir(wishes_.directory.c_str());
    return {};
  }
  CKPT_TRY(ckptd::make_directories(wishes_.directory));
  CKPT_TRY(write_points(points_file(), kept_, os::Durable::yes));
  CKPT_TRY(ckptd::make_libvirt_directory(run_dir_));
  return write_points(run_dir_.libvirt_snapshots(wishes_.uuid), kept_, os::Durable::no);
}

// What libvirt has of ours, told from others by the memory file.
ckpt::Status Publisher::look() {
  if (!domain_) return {};
  CKPT_ASSIGN(auto listed, list_snapshots(domain_.get()));
  for (auto& [number, point] : kept_.points) {
    auto found = listed.find(point.snapshot);
    if (found == listed.end()) continue;
    CKPT_ASSIGN(std::string xml, text_of_snapshot(found->second.get(), 0));
    CKPT_ASSIGN(std::string file, memory_file_of(xml));
    if (file != memory_file(number)) continue;
    ours_[number] = std::move(found->second);
    point.published = true;
    listed.erase(found);
  }
  for (const auto& [name, handle] : listed) others_.insert(name);
  CKPT_ASSIGN(DomainXml parsed, parse_domain_xml(present_));
  if (parsed.protection) return {};
  // All of ours go; then there is nothing more to be done with it.
  for (auto it = kept_.points.begin(); it != kept_.points.end();) {
    CKPT_TRY(withdraw(it->first));
    it = kept_.points.erase(it);
  }
  domain_.reset();
  return {};
}

// The point stays, whatever becomes of the snapshot.
ckpt::Status Publisher::withdraw(std::uint64_t number) {
  if (auto ours = ours_.find(number); ours != ours_.end()) {
    if (virDomainSnapshotDelete(ours->second.get(), VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY) < 0)
      return libvirt_error("its snapshot");
    ours_.erase(ours);
  }
  drop_files(number);
  return {};
}

// But no disk that the domain stands upon, which it may by an admin's own doing.
void Publisher::drop_files(std::uint64_t number) {
  ::unlink(memory_file(number).c_str());
  auto used =
      present_.empty() ? ckpt::Result<std::map<std::string, Disk>>(std::map<std::string, Disk>()) : disks_of(present_);
  if (!used.ok()) return;
  for (const auto& disk : kept_.points.at(number).disks) {
    auto now = used->find(disk.target);
    const bool in_use = now != used->end() && (!now->second.stands_alone || now->second.file == disk.file);
    struct stat about;
    if (!in_use && ::lstat(disk.file.c_str(), &about) == 0 && about.st_size < unwritten_limit_bytes)
      ::unlink(disk.file.c_str());
  }
}

void Publisher::drop_unwished() {
  for (auto it = kept_.points.begin(); it != kept_.points.end();) {
    const std::uint64_t number = it->first;
    SnapshotPoint& point = it->second;
    const bool wished =
        domain_ && std::any_of(wishes_.points.begin(), wishes_.points.end(), [&](const Wish& wish) {
          return wish.number == number && wish.name == point.snapshot && wish.wall_clock_ns == point.wall_clock_ns;
        });
    if (wished && point.published && !point.deleted && !ours_.contains(number)) {
      point.deleted = true;
      drop_files(number);
    }
    auto gone = wished ? ckpt::Status() : withdraw(number);
    note(number, gone);
    it = !wished && gone.ok() ? kept_.points.erase(it) : std::next(it);
  }
}

ckpt::Result<std::vector<PlacedDisk>> Publisher::place(const Recorded& recorded,
                                                       const std::optional<Image>& image) const {
  if (!image || image->domain.machine != wishes_.machine)
    return make_error(Code::refused, "its domain XML names another machine");
  if (image->disks.empty())
    return make_error(Code::refused, "it has no disk, and is no snapshot for that: 'ckptctl image' makes an image");
  // At a revert the domain is gone before anybody could say that this one file cannot be written.
  if (std::any_of(image->disks.begin(), image->disks.end(),
                  [](const ImageDisk& disk) { return disk.target == ckptd::nvram_target; }))
    return make_error(Code::refused,
                      "it has UEFI variables, and is no snapshot for that: 'ckptctl image' makes an image");
  const ckptd::RestoreState state;
  std::vector<PlacedDisk> placed;
  for (const auto& disk : image->disks) {
    auto at = std::find(recorded.disks.begin(), recorded.disks.end(), disk.name) - recorded.disks.begin();
    CKPT_ASSIGN(std::string file, free_disk_file(disk.file));
    // As QEMU sees it, whose hook and launcher know no other directory.
    placed.push_back({disk.target, file,
                      state.server_socket(ckptd::RunDir().restore(wishes_.machine), static_cast<std::size_t>(at))});
  }
  return placed;
}

ckpt::Status Publisher::define(const Wish& wish, const Recorded& recorded, const std::string& domain_xml) {
  Snapshot snapshot{.name = wish.name,
                    .description = std::string(recorded.application_consistent ? "application-consistent " : "") +
                                   "checkpoint " + ckpt::to_string(recorded.id) + " of ckpt",
                    .created_s = recorded.wall_clock_ns / 1'000'000'000,
                    .running = recorded.ran,
                    .memory_file = memory_file(wish.number)};
  for (const auto& [number, handle] : ours_)
    if (kept_.points.at(number).snapshot == wish.parent) snapshot.parent = wish.parent;
  CKPT_ASSIGN(std::string xml, snapshot_xml(snapshot, domain_xml));
  const int current = virDomainHasCurrentSnapshot(domain_.get(), 0);
  if (current < 0) return libvirt_error("its current snapshot");
  unsigned flags = VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE;
  if (!current) flags |= VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT;
  SnapshotHandle made(virDomainSnapshotCreateXML(domain_.get(), xml.c_str(), flags));
  if (!made) return libvirt_error("its snapshot");
  ours_[wish.number] = std::move(made);
  return {};
}

ckpt::Status Publisher::publish(const Wish& wish) {
  auto known = kept_.points.find(wish.number);
  if (known != kept_.points.end() && known->second.deleted) return {};
  if (!wish.pinned) {
    to_pin_.push_back(wish.number);
    return {};
  }
  if (ours_.contains(wish.number)) return keep_files(wish.number);
  if (others_.contains(wish.name))
    return make_error(Code::exists, "the domain has a snapshot '" + wish.name + "' that is not ckpt's: rename one");
  // Of a try that failed.
  if (known != kept_.points.end()) drop_files(wish.number);
  CKPT_ASSIGN(Recorded recorded, read_recorded(run_dir_, wishes_.machine, std::to_string(wish.number)));
  CKPT_ASSIGN(auto image, parse_image(recorded.xml));
  CKPT_ASSIGN(auto placed, place(recorded, image));
  CKPT_ASSIGN(std::string domain_xml, with_disks(recorded.xml, placed));
  CKPT_ASSIGN(domain_xml, with_passwords(domain_xml, present_));
  SnapshotPoint& point = kept_.points[wish.number];
  point = {.snapshot = wish.name, .wall_clock_ns = wish.wall_clock_ns, .disks = image->disks};
  for (std::size_t i = 0; i < placed.size(); ++i) point.disks[i].file = placed[i].file;
  // Before libvirt has it: at each moment the hook knows what libvirt may revert to.
  CKPT_TRY(save());
  CKPT_TRY(keep_files(wish.number, &recorded));
  CKPT_TRY(define(wish, recorded, domain_xml));
  point.published = true;
  return {};
}

// Whoever has removed one of them: libvirt has ended the domain before it looks for them. `recorded`: read already.
ckpt::Status Publisher::keep_files(std::uint64_t number, const Recorded* recorded) const {
  for (const auto& disk : kept_.points.at(number).disks) CKPT_TRY(keep_place(disk.file));
  if (::access(memory_file(number).c_str(), F_OK) == 0) return {};
  Recorded read;
  if (!recorded) {
    CKPT_ASSIGN(read, read_recorded(run_dir_, wishes_.machine, std::to_string(number)));
    recorded = &read;
  }
  return os::replace_file(memory_file(number), save_image(recorded->xml, recorded->ran, recorded->device_state),
                          os::Durable::yes);
}

// libvirtd crashes when it reverts without.
ckpt::Status Publisher::make_one_current() {
  if (!domain_ || ours_.empty()) return {};
  const int current = virDomainHasCurrentSnapshot(domain_.get(), 0);
  if (current < 0) return libvirt_error("its current snapshot");
  if (current) return {};
  CKPT_ASSIGN(std::string xml, text_of_snapshot(ours_.rbegin()->second.get(), VIR_DOMAIN_SNAPSHOT_XML_SECURE));
  SnapshotHandle made(virDomainSnapshotCreateXML(
      domain_.get(), xml.c_str(), VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT));
  if (!made) return libvirt_error("no snapshot is the current one, and none can be made it");
  return {};
}

ckpt::Result<Json> Publisher::run(const std::string& uri) {
  CKPT_TRY(find_domain(uri));
  CKPT_TRY(load());
  CKPT_TRY(look());
  drop_unwished();
  if (domain_)
    for (const auto& wish : wishes_.points) note(wish.number, publish(wish));
  auto current = make_one_current();
  if (!current.ok()) troubles_.push_back(wishes_.machine + ": " + current.error().message());
  CKPT_TRY(save());
  Json published = Json::array();
  for (const auto& [number, handle] : ours_) published.push_back(number);
  return Json{{"published", published}, {"to_pin", to_pin_}, {"troubles", troubles_}};
}

}  // namespace

ckpt::Result<Json> publish_snapshots(const std::string& uri, const ckptd::RunDir& run_dir, const std::string& wishes) {
  CKPT_ASSIGN(Wishes parsed, parse_wishes(wishes));
  return Publisher(run_dir, std::move(parsed)).run(uri);
}

}  // namespace libvirt_hooks
