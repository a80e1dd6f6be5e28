// SPDX-License-Identifier: LGPL-2.1-or-later
//
// ckptctl: the command line of ckptd.
#include <signal.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "common/text.h"
#include "ctl/commands.h"

namespace ckptd {
namespace {

// The commands' arguments, and the one that was chosen.
struct Arguments {
  Context context;
  std::string machine, target, name, holder = "admin", qmp, file;
  std::vector<std::string> assignments, qemu_argv;
  PolicyOptions policy;
  RestoreOptions restore;
  CloneOptions clone;
  std::string timeout = "60s";
  bool consistent = false;
  std::uint64_t count = 0;
  std::function<ckpt::Status()> chosen;
};

using Choice = std::function<ckpt::Status()>;

CLI::App* add_command(CLI::App& app, Arguments& arguments, const std::string& name, const std::string& text,
                      Choice choice) {
  CLI::App* command = app.add_subcommand(name, text);
  command->callback([&arguments, choice = std::move(choice)] { arguments.chosen = choice; });
  return command;
}

CLI::Option* add_machine(CLI::App* command, Arguments& arguments) {
  return command->add_option("NAME", arguments.machine, "Name of the machine");
}

CLI::Option* add_target(CLI::App* command, Arguments& arguments) {
  return command->add_option("NAME@POINT", arguments.target,
                             "Machine and checkpoint: a number, a name, latest, -30s, a time");
}

void add_policy(CLI::App* command, Arguments& arguments) {
  command->add_option("--interval", arguments.policy.interval, "Time between checkpoints, 50ms to 1h")
      ->type_name("TIME");
  command
      ->add_option("--retention", arguments.policy.retention, "What is kept, as all:60s,10s:10m,1m:1d; all: everything")
      ->type_name("RULES");
  command
      ->add_option("--consistent", arguments.policy.consistent,
                   "Time between application-consistent points, 10s to 7d; none")
      ->type_name("TIME");
}

void add_looking(CLI::App& app, Arguments& a) {
  add_machine(add_command(app, a, "status", "Show the machines, the store and restores",
                          [&a] { return show_status(a.context, a.machine); }),
              a);
  auto* watch = add_command(app, a, "watch", "Show the same once a second",
                            [&a] { return show_watch(a.context, a.machine, a.count); });
  add_machine(watch, a);
  watch->add_option("--count", a.count, "End after so many times; 0: never")->type_name("N")->capture_default_str();
  add_machine(
      add_command(app, a, "list", "List checkpoints, newest last", [&a] { return show_list(a.context, a.machine); }),
      a);
  add_target(add_command(app, a, "show", "Show one checkpoint",
                         [&a] { return show_checkpoint(a.context, parse_target(a.target)); }),
             a)
      ->required();
  auto* verify = add_command(app, a, "verify", "Read all or one machine's checkpoints, or one, and check every byte",
                             [&a] { return run_verify(a.context, parse_target(a.target)); });
  verify->add_option("NAME[@POINT]", a.target, "Machine, or one checkpoint of it");
  add_machine(add_command(app, a, "restores", "Show restores", [&a] { return show_restores(a.context, a.machine); }),
              a);
  add_machine(add_command(app, a, "progress", "Follow restores until they are over",
                          [&a] { return follow_restores(a.context, a.machine); }),
              a);
}

void add_changing(CLI::App& app, Arguments& a) {
  auto* checkpoint = add_command(app, a, "checkpoint", "Take a checkpoint now and wait until it is durable", [&a] {
    return take_checkpoint(a.context, a.machine, a.name, a.timeout, a.consistent);
  });
  add_machine(checkpoint, a)->required();
  checkpoint->add_option("--name", a.name, "Name it; a named checkpoint is kept for ever")->type_name("NEWNAME");
  checkpoint->add_flag("--consistent", a.consistent, "Freeze the guest's file systems for it, through its agent");
  checkpoint->add_option("--timeout", a.timeout, "Give up after so long")->type_name("TIME")->capture_default_str();
  auto* name = add_command(app, a, "name", "Name a checkpoint, or take its name away",
                           [&a] { return name_checkpoint(a.context, parse_target(a.target), a.name); });
  add_target(name, a)->required();
  name->add_option("NEWNAME", a.name, "The new name; none: no name any more");
  for (bool pinned : {true, false}) {
    auto* pin = add_command(
        app, a, pinned ? "pin" : "unpin", pinned ? "Keep a checkpoint, whatever retention says" : "Undo pin",
        [&a, pinned] { return pin_checkpoint(a.context, parse_target(a.target), a.holder, pinned); });
    add_target(pin, a)->required();
    pin->add_option("--holder", a.holder, "Who needs it")->type_name("WHO")->capture_default_str();
  }
  add_target(add_command(app, a, "remove", "Remove one checkpoint",
                         [&a] { return remove_checkpoint(a.context, parse_target(a.target)); }),
             a)
      ->required();
  add_machine(add_command(app, a, "forget", "Remove a machine and all its checkpoints",
                          [&a] { return forget_machine(a.context, a.machine); }),
              a)
      ->required();
}

void add_protecting(CLI::App& app, Arguments& a) {
  auto* protect = add_command(app, a, "protect", "Wait for a machine's QEMU, started by someone else",
                              [&a] { return protect_machine(a.context, a.machine, a.policy, a.qmp); });
  add_machine(protect, a)->required();
  add_policy(protect, a);
  protect->add_option("--qmp", a.qmp, "QMP socket of a running QEMU: protect it now")->type_name("PATH");
  add_machine(add_command(app, a, "unprotect", "Stop capturing; checkpoints stay",
                          [&a] { return unprotect_machine(a.context, a.machine); }),
              a)
      ->required();
  auto* set = add_command(app, a, "set", "Change interval, retention or application-consistent points",
                          [&a] { return set_machine(a.context, a.machine, a.policy, a.assignments); });
  add_machine(set, a)->required();
  set->add_option("SETTING", a.assignments,
                  "interval=TIME, retention=RULES or consistent=TIME: the same as the options");
  add_policy(set, a);
  auto* run =
      add_command(app, a, "run", "Start QEMU as a protected machine: run NAME [OPTIONS] -- qemu-system-x86_64 ARGS...",
                  [&a] { return run_machine(a.context, a.machine, a.policy, a.qemu_argv); });
  add_machine(run, a)->required();
  add_policy(run, a);
}

void add_restoring(CLI::App& app, Arguments& a) {
  auto* restore =
      add_command(app, a, "restore",
                  "Run a machine again from a checkpoint: restore NAME[@POINT] [OPTIONS] [-- QEMU ARGS...]", [&a] {
                    a.restore.target = parse_target(a.target);
                    a.restore.qemu_argv = a.qemu_argv;
                    return restore_machine(a.context, a.restore);
                  });
  RestoreOptions& r = a.restore;
  restore->add_option("NAME[@POINT]", a.target, "Machine and checkpoint: a number, a name, latest, -30s, a time")
      ->required();
  restore
      ->add_option(
          "--mode", r.mode,
          "What is fetched before the guest asks: lazy nothing, aggressive all behind it, full all before it starts")
      ->check(CLI::IsMember({"lazy", "aggressive", "full"}))
      ->capture_default_str();
  restore->add_option("--bandwidth", r.bandwidth, "Bytes a second to fetch ahead, as 10M")->type_name("SIZE");
  restore->add_option("--disk-dir", r.disk_dir, "Where the new disk images go; default: where each disk was")
      ->type_name("DIR");
  restore->add_option("--as", r.as, "Run it under another name")->type_name("NAME");
  restore->add_option("--clock", r.clock, "Guest's clock: continue as saved, or now (needs a guest agent)")
      ->check(CLI::IsMember({"continue", "now"}))
      ->capture_default_str();
  restore
      ->add_option("--probe", r.probes,
                   "What shows that it serves: tcp:HOST:PORT[=LINE], http://HOST[:PORT][/PATH][=STATUS] or\n"
                   "exec:COMMAND; several: all of them")
      ->allow_extra_args(false)
      ->type_name("PROBE");
  restore->add_option("--probe-timeout", r.probe_timeout, "How long to wait for the probes' answers")
      ->type_name("TIME")
      ->capture_default_str();
  restore->add_option("--qemu", r.qemu, "Another QEMU than the recorded one")->type_name("PATH");
  restore->add_flag("--wait", r.wait, "Return when all is local");
  restore->add_flag("--foreground", r.foreground, "Stay until QEMU ends, with its input and output");
  restore->add_flag("--force", r.force, "Also with another version of QEMU, or disks that the checkpoint lacks");
  restore->add_flag("--replace", r.replace, "Move an image of an earlier restore aside");
  auto* image = add_command(app, a, "image", "Write a libvirt domain's checkpoint as a save image for 'virsh restore'",
                            [&a] { return write_image(a.context, parse_target(a.target), a.file); });
  image->add_option("NAME[@POINT]", a.target, "Machine and checkpoint")->required();
  image->add_option("-o,--output", a.file, "Where; default: NAME@NUMBER.save here")->type_name("FILE");
  auto* clone = add_command(app, a, "clone", "Run a libvirt domain's checkpoint as another domain, beside it", [&a] {
    a.clone.target = parse_target(a.target);
    return clone_machine(a.context, a.clone);
  });
  clone->add_option("NAME[@POINT]", a.target, "Machine and checkpoint")->required();
  clone->add_option("NEWNAME", a.clone.name, "Name of the new domain")->required();
  clone->add_flag("--paused", a.clone.paused, "It does not run yet: 'virsh resume'");
  clone->add_flag("--transient", a.clone.transient, "It is not defined: it is gone when it ends");
  clone->add_flag("--connected", a.clone.connected, "Its network cards stay plugged in, as at that point");
  add_machine(add_command(app, a, "finish", "Fetch everything of a lazy restore",
                          [&a] { return finish_restore(a.context, a.machine); }),
              a)
      ->required();
}

int fail(const Context& context, const ckpt::Error& error) {
  if (context.json && !context.json_printed) context.print_json(Json::object(), error);
  std::cerr << "ckptctl: " << error.message() << "\n";
  return static_cast<int>(error.code);
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Protects virtual machines with checkpoints, and runs them again from any of them. Talks to ckptd.",
               "ckptctl");
  app.set_version_flag("--version", std::string("ckptctl " CKPT_VERSION));
  app.add_option("--run-dir", arguments.context.run_dir.path, "ckptd's --run-dir")
      ->type_name("DIR")
      ->envname("CKPT_RUN_DIR")
      ->capture_default_str();
  app.add_flag("--json", arguments.context.json, "Print JSON");
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Exit status: 0 done, or 1 not found, 2 exists, 3 invalid, 4 corrupt, 5 protocol, 6 version, 7 busy,\n"
      "8 no space, 9 input/output, 10 unavailable, 11 refused, 12 limit, 13 cancelled.");
  add_looking(app, arguments);
  add_changing(app, arguments);
  add_protecting(app, arguments);
  add_restoring(app, arguments);

  // What follows "--" is QEMU's and not to be looked at.
  int own = 1;
  while (own < argc && std::string_view(argv[own]) != "--") ++own;
  for (int i = own + 1; i < argc; ++i) arguments.qemu_argv.emplace_back(argv[i]);
  try {
    app.parse(own, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version come this way too.
    if (error.get_exit_code() == 0) return app.exit(error);
    return fail(arguments.context,
                ckpt::make_error(ckpt::Code::invalid, std::string(error.what()) + ": see 'ckptctl --help'"));
  }
  ::umask(0077);
  ::signal(SIGPIPE, SIG_IGN);
  auto status = arguments.chosen();
  return status.ok() ? 0 : fail(arguments.context, status.error());
}

}  // namespace
}  // namespace ckptd

int main(int argc, char** argv) { return ckptd::run(argc, argv); }
