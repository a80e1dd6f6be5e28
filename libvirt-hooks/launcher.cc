// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What <emulator> names: becomes the patched QEMU. A domain's QEMU gets the object through which ckptd can protect it
// at any moment of its life, without a word to libvirt or QEMU; without ckptd it does nothing. Everything else that
// libvirt wants of an emulator, such as its capabilities, goes through unchanged (doc/libvirt.md).
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "common/libvirt_domain.h"
#include "common/paths.h"
#include "common/qemu_command.h"

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

std::string stream_option(const std::string& uuid) {
  const ckptd::RunDir run_dir;
  std::string option = ckptd::object_option(ckptd::stream_object(run_dir.libvirt_socket(uuid)));
  // A machine that cannot be captured runs all the same, and ckptd is told why it cannot.
  return option + (required(run_dir.libvirt_domain(uuid)) ? "" : ",optional=on");
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  std::string name = argc > 0 ? arguments[0].substr(arguments[0].rfind('/') + 1) : "";
  std::string qemu = ckptd::own_directory() + qemu_beside +
                     (name.starts_with(own_prefix) ? name.substr(own_prefix.size()) : "qemu-system-x86_64");
  if (std::string uuid = domain_of(arguments); !uuid.empty()) {
    arguments.push_back("-object");
    arguments.push_back(stream_option(uuid));
  }
  std::vector<char*> pointers;
  for (auto& word : arguments) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  ::execv(qemu.c_str(), pointers.data());
  std::cerr << "ckpt: cannot start " << qemu << ": " << std::strerror(errno) << ": install ckpt's QEMU there\n";
  return 127;
}
