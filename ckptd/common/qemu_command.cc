// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/qemu_command.h"

#include <algorithm>
#include <array>
#include <set>

#include "common/guest_agent.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

// Nodes, disks and devices are looked up one in the other.
constexpr std::size_t word_limit = 4096;

struct Shorthand {
  const char* option;
  const char* rest;
};

// What QEMU makes of them itself, so that all disks are -drive or -blockdev.
constexpr std::array<Shorthand, 10> shorthands = {{{"-hda", "index=0,media=disk"},
                                                   {"-hdb", "index=1,media=disk"},
                                                   {"-hdc", "index=2,media=disk"},
                                                   {"-hdd", "index=3,media=disk"},
                                                   {"-cdrom", "index=2,media=cdrom"},
                                                   {"-fda", "index=0,if=floppy"},
                                                   {"-fdb", "index=1,if=floppy"},
                                                   {"-mtdblock", "if=mtd"},
                                                   {"-pflash", "if=pflash"},
                                                   {"-sd", "if=sd"}}};

struct Refusal {
  const char* option;
  const char* reason;
};

constexpr std::array<Refusal, 6> refusals = {
    {{"-readconfig", "may hold disks that ckptctl does not see: give its content as options"},
     {"-incoming", "is what 'ckptctl restore' adds itself: leave it out"},
     {"-loadvm", "starts from a state that is not in the store: leave it out"},
     {"-snapshot", "throws the disks' writes away at the end: leave it out, checkpoints give you the way back"},
     {"-daemonize", "changes QEMU's process, which ckptctl must know: leave it out and start ckptctl with setsid or &"},
     {"-preconfig", "delays the machine's creation past what ckptctl records: leave it out"}}};

// Block drivers that lie above another node and do what ckptctl cannot rebuild around an overlay.
constexpr std::array<const char*, 7> filters = {"throttle", "copy-on-read", "blkdebug", "blkverify",
                                                "quorum",   "replication",  "luks"};

// Options without a value, as far as it matters for reading the rest.
bool takes_value(const std::string& option) {
  static const std::set<std::string> flags = {"-help",
                                              "-h",
                                              "-version",
                                              "-mem-prealloc",
                                              "-snapshot",
                                              "-usb",
                                              "-nographic",
                                              "-full-screen",
                                              "-win2k-hack",
                                              "-no-fd-bootchk",
                                              "-preconfig",
                                              "-S",
                                              "-s",
                                              "-enable-kvm",
                                              "-xen-attach",
                                              "-xen-domid-restrict",
                                              "-no-reboot",
                                              "-no-shutdown",
                                              "-daemonize",
                                              "-only-migratable",
                                              "-nodefaults",
                                              "-semihosting",
                                              "-old-param",
                                              "-no-user-config",
                                              "-enable-sync-profile",
                                              "-perfmap",
                                              "-jitdump"};
  return !flags.contains(option);
}

ckpt::Status check_driver(const QemuDisk& disk) {
  if (std::find(filters.begin(), filters.end(), disk.format) == filters.end()) return {};
  return make_error(Code::refused, "disk '" + disk.name + "' goes through '" + disk.format +
                                       "', which ckptctl cannot rebuild at a restore: attach its image directly");
}

}  // namespace

Json stream_object(const std::string& socket, const std::string& base) {
  Json object = {{"qom-type", "checkpoint-stream"}, {"id", "ckpt0"}, {"path", socket}};
  if (!base.empty()) object["base"] = base;
  return object;
}

Json restore_object(const std::string& agent_socket) {
  return {{"qom-type", "checkpoint-restore"}, {"id", "restore0"}, {"path", agent_socket}};
}

std::string object_option(const Json& object) {
  std::string text = text_of(object, "qom-type");
  for (const auto& [key, value] : object.items())
    if (key != "qom-type") text += "," + key + "=" + double_commas(value.get<std::string>());
  return text;
}

ckpt::Status QemuCommand::read_arguments(const std::vector<std::string>& argv) {
  for (std::size_t i = 1; i < argv.size(); ++i) {
    Argument argument;
    argument.option = argv[i].starts_with("--") ? argv[i].substr(1) : argv[i];
    if (argument.option.starts_with("--")) return make_error(Code::invalid, "QEMU has no option " + argv[i]);
    if (!argument.option.starts_with("-")) {
      // A bare word is the first disk's image.
      argument.value = argv[i];
      argument.option = "-hda";
    } else if (takes_value(argument.option)) {
      if (i + 1 == argv.size()) return make_error(Code::invalid, "QEMU option " + argv[i] + " lacks its value");
      argument.value = argv[++i];
    }
    for (const auto& refusal : refusals)
      if (argument.option == refusal.option)
        return make_error(Code::refused, "QEMU option " + argument.option + " " + refusal.reason);
    for (const auto& shorthand : shorthands) {
      if (argument.option != shorthand.option) continue;
      CKPT_ASSIGN(QemuOptions options, QemuOptions::parse(shorthand.rest));
      options.set("file", *argument.value);
      argument.option = "-drive";
      argument.value = options.text();
    }
    static const std::set<std::string> understood = {"-drive",   "-blockdev", "-device", "-object",
                                                     "-machine", "-M",        "-chardev"};
    if (understood.contains(argument.option)) {
      CKPT_ASSIGN(argument.options, QemuOptions::parse(*argument.value));
      if (argument.option == "-object" && argument.options->implied().starts_with("checkpoint-"))
        return make_error(Code::refused, "QEMU option -object " + argument.options->implied() +
                                             " is what ckptctl adds itself: leave it out");
    }
    arguments_.push_back(std::move(argument));
  }
  return {};
}

ckpt::Result<QemuCommand> QemuCommand::parse(const std::vector<std::string>& argv) {
  if (argv.empty()) return make_error(Code::invalid, "no QEMU command line: give it after '--'");
  if (argv.size() > word_limit)
    return make_error(Code::limit, "a QEMU command line of more than " + std::to_string(word_limit) + " words");
  QemuCommand command;
  command.program_ = argv[0];
  CKPT_TRY(command.read_arguments(argv));
  CKPT_TRY(command.find_drives());
  CKPT_TRY(command.find_block_devices());
  std::set<std::string> names;
  for (const auto& disk : command.disks_)
    if (!names.insert(disk.name).second)
      return make_error(Code::invalid, "two disks are named '" + disk.name + "': give each an id of its own");
  return command;
}

ckpt::Status QemuCommand::find_drives() {
  std::set<std::string> taken;
  for (const auto& argument : arguments_)
    if (argument.options) taken.insert(argument.options->get("id").value_or(""));
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    if (arguments_[i].option != "-drive") continue;
    QemuOptions& options = *arguments_[i].options;
    auto file = options.get("file");
    if (!file) file = options.get("file.filename");
    if (!file && !options.has_prefix("file.")) continue;  // no medium
    if (options.is_on("snapshot"))
      return make_error(Code::refused, "drive " + *arguments_[i].value +
                                           ": snapshot=on throws its writes away at the end: leave it out");
    if (!options.get("id")) {
      int n = 0;
      while (taken.contains("disk" + std::to_string(n))) ++n;
      options.set("id", "disk" + std::to_string(n));
      taken.insert("disk" + std::to_string(n));
    }
    QemuDisk disk;
    disk.name = *options.get("id");
    disk.file = file.value_or("");
    disk.format = options.get("format").value_or(options.get("driver").value_or(""));
    CKPT_TRY(check_driver(disk));
    disk.read_only = options.is_on("readonly") || options.is_on("read-only") || options.get("media") == "cdrom";
    disks_.push_back(disk);
    places_.push_back({i, false});
  }
  return {};
}

std::optional<std::size_t> QemuCommand::find_node(const std::string& node) const {
  for (std::size_t i = 0; i < arguments_.size(); ++i)
    if (arguments_[i].option == "-blockdev" && arguments_[i].options->get("node-name") == node) return i;
  return std::nullopt;
}

ckpt::Status QemuCommand::find_block_devices() {
  int n = 0;
  for (auto& argument : arguments_) {
    if (!argument.options) continue;
    if (argument.option == "-device") {
      auto node = argument.options->get("drive");
      if (!node || !find_node(*node)) continue;
      if (!argument.options->get("id")) argument.options->set("id", "blockdev" + std::to_string(n++));
      CKPT_TRY(add_block_device(*node, *argument.options->get("id")));
    } else if (argument.option == "-machine" || argument.option == "-M") {
      for (const char* unit : {"0", "1"}) {
        auto node = argument.options->get(std::string("pflash") + unit);
        if (node && find_node(*node)) CKPT_TRY(add_block_device(*node, std::string("/machine/system.flash") + unit));
      }
    }
  }
  return {};
}

ckpt::Status QemuCommand::add_block_device(const std::string& node, const std::string& name) {
  std::size_t index = *find_node(node);
  const QemuOptions& options = *arguments_[index].options;
  QemuDisk disk;
  disk.name = name;
  disk.format = options.implied();
  CKPT_TRY(check_driver(disk));
  disk.read_only = options.is_on("read-only");
  auto file = options.get("file.filename");
  if (!file) file = options.get("filename");
  if (auto child = options.get("file"); !file && child) {
    auto below = find_node(*child);
    if (!below)
      return make_error(Code::invalid, "block node '" + node + "' names '" + *child + "', which no -blockdev has");
    file = arguments_[*below].options->get("filename");
  }
  disk.file = file.value_or("");
  disks_.push_back(disk);
  places_.push_back({index, true});
  return {};
}

ckpt::Status QemuCommand::replace_disk(const std::string& name, const std::string& overlay) {
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    if (disks_[i].name != name) continue;
    if (places_[i].blockdev) return replace_blockdev(disks_[i], places_[i].argument, overlay);
    QemuOptions& options = *arguments_[places_[i].argument].options;
    for (const char* key : {"file.", "driver", "backing.", "backing"}) options.remove(key);
    options.set("file", overlay);
    options.set("format", "qcow2");
    return {};
  }
  return make_error(Code::not_found, "the recorded command line has no disk '" + name + "'");
}

ckpt::Status QemuCommand::replace_blockdev(const QemuDisk& disk, std::size_t argument, const std::string& overlay) {
  QemuOptions& options = *arguments_[argument].options;
  if (auto child = options.get("file")) {
    auto below = find_node(*child);
    auto used = std::count_if(arguments_.begin(), arguments_.end(), [&](const Argument& other) {
      return other.option == "-blockdev" && !other.dropped &&
             (other.options->get("file") == child || other.options->get("backing") == child);
    });
    if (!below || used != 1)
      return make_error(Code::refused, "disk '" + disk.name + "' shares its block node '" + *child +
                                           "': give each disk nodes of its own");
    arguments_[*below].dropped = true;
  }
  options.keep_only({"node-name", "discard", "cache.", "read-only", "auto-read-only", "force-share", "detect-zeroes"});
  options.set("driver", "qcow2");
  options.set("file.driver", "file");
  options.set("file.filename", overlay);
  return {};
}

void QemuCommand::renew_generation_id() {
  for (auto& argument : arguments_)
    if (argument.option == "-device" && argument.options->implied() == "vmgenid") argument.options->set("guid", "auto");
}

void QemuCommand::add(const std::string& option, const std::string& value) {
  Argument argument;
  argument.option = option;
  if (!value.empty()) argument.value = value;
  arguments_.push_back(std::move(argument));
}

void QemuCommand::add_qmp(const std::string& socket) {
  add("-qmp", "unix:" + double_commas(socket) + ",server=on,wait=off");
}

void QemuCommand::remove_flag(const std::string& option) {
  std::erase_if(arguments_, [&](const Argument& argument) { return argument.option == option && !argument.value; });
}

bool QemuCommand::has(const std::string& option) const {
  return std::any_of(arguments_.begin(), arguments_.end(),
                     [&](const Argument& argument) { return argument.option == option; });
}

std::optional<std::string> QemuCommand::guest_agent_socket() const { return ckptd::guest_agent_socket(argv()); }

std::vector<std::string> QemuCommand::argv() const {
  std::vector<std::string> argv = {program_};
  for (const auto& argument : arguments_) {
    if (argument.dropped) continue;
    argv.push_back(argument.option);
    if (argument.options)
      argv.push_back(argument.options->text());
    else if (argument.value)
      argv.push_back(*argument.value);
  }
  return argv;
}

}  // namespace ckptd
