// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whatever is given as a QEMU command line (words end at a newline), it is refused or understood; read again it has the
// same disks, and each of them can be replaced or is refused.
#include <cstdio>
#include <cstdlib>

#include "common/qemu_command.h"
#include "common/text.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ckptd;
  auto words = split({reinterpret_cast<const char*>(data), size}, '\n');
  for (const auto& word : words)
    if (auto options = QemuOptions::parse(word); options.ok()) {
      auto again = QemuOptions::parse(options->text());
      require(again.ok() && again->text() == options->text());
    }
  auto command = QemuCommand::parse(words);
  if (!command.ok()) return 0;
  auto again = QemuCommand::parse(command->argv());
  require(again.ok() && again->disks().size() == command->disks().size());
  for (std::size_t i = 0; i < command->disks().size(); ++i) require(again->disks()[i].name == command->disks()[i].name);
  (void)command->guest_agent_socket();
  command->renew_generation_id();
  for (const auto& disk : std::vector<QemuDisk>(command->disks()))
    (void)command->replace_disk(disk.name, "/overlay,1.qcow2");
  command->add("-S");
  command->remove_flag("-S");
  (void)command->argv();
  return 0;
}
