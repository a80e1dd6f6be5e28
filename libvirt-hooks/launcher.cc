// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What <emulator> names: becomes the patched QEMU. A domain's QEMU gets the object through which ckptd can protect it
// at any moment of its life, without a word to libvirt or QEMU; without ckptd it does nothing. Everything else that
// libvirt wants of an emulator, such as its capabilities, goes through unchanged (doc/libvirt.md).
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "common/libvirt_domain.h"
#include "common/paths.h"
#include "common/qemu_command.h"
#include "common/text.h"

namespace {

// From where both are installed, whatever the prefix.
constexpr const char* qemu_beside = "/../lib/ckpt/qemu/bin/";
constexpr std::string_view own_prefix = "ckpt-";

std::string domain_of(const std::vector<std::string>& arguments) {
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i)
    if (arguments[i] == "-uuid" && ckptd::is_uuid(arguments[i + 1])) return arguments[i + 1];
  return "";
}

// As the hook has found it; what cannot be read requires nothing.
bool required(const std::string& file) {
  auto json = ckptd::read_json_file(file);
  if (!json.ok()) return false;
  auto domain = ckptd::libvirt_domain_from_json(*json);
  return domain.ok() && domain->required;
}

std::string stream_option(const std::string& uuid, const std::string& base) {
  const ckptd::RunDir run_dir;
  std::string option = ckptd::object_option(ckptd::stream_object(run_dir.libvirt_socket(uuid), base));
  // A machine that cannot be captured runs all the same, and ckptd is told why it cannot.
  return option + (required(run_dir.libvirt_domain(uuid)) ? "" : ",optional=on");
}

// What the hook has left of a restore that ends with this start; null: there is none.
ckptd::Json restore_of(const std::string& uuid, const std::vector<std::string>& arguments) {
  const ckptd::RunDir run_dir;
  if (std::find(arguments.begin(), arguments.end(), "-incoming") == arguments.end()) return nullptr;
  auto json = ckptd::read_json_file(run_dir.libvirt_restore(uuid));
  bool known = json.ok() && ckptd::number_of(*json, "version") == 1 &&
               ckptd::check_machine_name(ckptd::text_of(*json, "machine")).ok();
  return known ? *json : ckptd::Json();
}

// Its disks come from a restore: so does its memory, or it has none.
bool needs_restore(const std::vector<std::string>& arguments) {
  const std::string place = ckptd::RunDir().restores() + "/";
  return std::any_of(arguments.begin(), arguments.end(),
                     [&](const std::string& word) { return word.find(place) != std::string::npos; });
}

bool add_objects(const std::string& uuid, std::vector<std::string>& arguments) {
  const ckptd::Json restore = restore_of(uuid, arguments);
  if (restore.is_null() && needs_restore(arguments)) {
    std::cerr
        << "ckpt: its disks are those of a restore that is over, or was not prepared: 'virsh restore' an image of "
           "'ckptctl image'\n";
    return false;
  }
  arguments.insert(arguments.end(), {"-object", stream_option(uuid, ckptd::text_of(restore, "base"))});
  if (restore.is_null()) return true;
  const std::string agent = ckptd::RunDir().agent_socket(ckptd::text_of(restore, "machine"));
  arguments.insert(arguments.end(), {"-object", ckptd::object_option(ckptd::restore_object(agent))});
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  std::string name = argc > 0 ? arguments[0].substr(arguments[0].rfind('/') + 1) : "";
  std::string qemu = ckptd::own_directory() + qemu_beside +
                     (name.starts_with(own_prefix) ? name.substr(own_prefix.size()) : "qemu-system-x86_64");
  if (std::string uuid = domain_of(arguments); !uuid.empty()) {
    if (!add_objects(uuid, arguments)) return 126;
  }
  std::vector<char*> pointers;
  for (auto& word : arguments) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  ::execv(qemu.c_str(), pointers.data());
  std::cerr << "ckpt: cannot start " << qemu << ": " << std::strerror(errno) << ": install ckpt's QEMU there\n";
  return 127;
}
