// SPDX-License-Identifier: LGPL-2.1-or-later
#include "image.h"

#include "ckpt/env.h"
#include "common/control_client.h"
#include "common/restore_parts.h"
#include "os/file.h"
#include "restore_xml.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;
using ckptd::Json;

namespace {

constexpr std::string_view magic = "LibvirtQemudSave";
constexpr std::size_t header_bytes = 92;
// As libvirt leaves it, so that the XML may grow (virsh save-image-edit).
constexpr std::size_t padding_bytes = 64 << 10;

void put_u32(std::string& out, std::size_t value) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift & 0xFF);
}

std::vector<std::string> disk_names(const Json& objects) {
  std::vector<std::string> names;
  for (const Json& object : objects)
    if (ckptd::text_of(object, "class") == "disk") names.push_back(ckptd::text_of(object, "name"));
  return names;
}

}  // namespace

std::string save_image(std::string_view xml, bool was_running, std::string_view device_state) {
  std::string out(magic);
  // version, length of the XML, was it running, format (raw), offset of the cookie (none)
  for (std::size_t value :
       {std::size_t{2}, xml.size() + 1 + padding_bytes, std::size_t{was_running}, std::size_t{0}, std::size_t{0}})
    put_u32(out, value);
  out.resize(header_bytes, '\0');
  out += xml;
  out.append(1 + padding_bytes, '\0');
  out += device_state;
  return out;
}

ckpt::Result<Recorded> read_recorded(const ckptd::RunDir& run_dir, const std::string& machine,
                                     const std::string& point) {
  CKPT_ASSIGN(auto client, ckptd::ControlClient::connect(run_dir.control_socket()));
  CKPT_ASSIGN(Json hello, client.request({{"verb", "hello"}}));
  CKPT_ASSIGN(Json shown, client.request({{"verb", "show"}, {"machine", machine}, {"point", point}}));
  const Json checkpoint = ckptd::member_of(shown, "checkpoint");
  Recorded found;
  found.id = {machine, ckptd::number_of(checkpoint, "number")};
  found.wall_clock_ns = ckptd::number_of(checkpoint, "wall_clock_ns");
  found.ran = ckptd::text_of(ckptd::member_of(shown, "epoch"), "run_state") == "running";
  found.application_consistent = ckptd::flag_of(checkpoint, "application_consistent");
  found.disks = disk_names(ckptd::member_of(shown, "objects"));
  const Json domain = ckptd::member_of(ckptd::member_of(shown, "config"), "domain");
  found.uuid = ckptd::text_of(domain, "uuid");
  found.domain_xml = ckptd::text_of(domain, "xml");
  const std::string name = ckpt::to_string(found.id);
  if (found.domain_xml.empty())
    return make_error(Code::refused, name + " is of no libvirt domain: 'ckptctl restore' runs it, with --as as a copy");
  auto xml = image_xml(found.domain_xml, {machine, found.id.number, found.disks, ""});
  if (!xml.ok()) return make_error(xml.error().code, name + ": " + xml.error().message());
  found.xml = xml.take();
  CKPT_ASSIGN(auto store, ckpt::Store::open(ckpt::Env::system(), ckptd::text_of(hello, "store"), {.read_only = true}));
  CKPT_ASSIGN(auto reader, store->open_checkpoint(found.id));
  CKPT_ASSIGN(found.device_state, ckptd::read_device_state(found.id, *reader));
  return found;
}

ckpt::Result<Json> write_image(const ckptd::RunDir& run_dir, const Wanted& wanted) {
  CKPT_ASSIGN(Recorded recorded, read_recorded(run_dir, wanted.machine, wanted.point));
  const std::string name = ckpt::to_string(recorded.id);
  const std::string image = save_image(recorded.xml, recorded.ran, recorded.device_state);
  const std::string file = ckptd::whole_path(wanted.file.empty() ? name + ".save" : wanted.file);
  CKPT_TRY(os::replace_file(file, image, os::Durable::yes));
  return Json{
      {"file", file}, {"checkpoint", name}, {"wall_clock_ns", recorded.wall_clock_ns}, {"size_bytes", image.size()}};
}

}  // namespace libvirt_hooks
