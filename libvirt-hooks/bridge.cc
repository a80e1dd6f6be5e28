// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt-bridge: what ckptd and ckptctl have to ask of libvirt, in a process that may wait for it.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "change.h"
#include "clone.h"
#include "disks.h"
#include "follow.h"
#include "freeze.h"
#include "image.h"
#include "snapshots.h"

namespace libvirt_hooks {
namespace {

// One answer, on one line: ckptctl reads it as one of ckptd's.
int answer(ckpt::Result<ckptd::Json> done) {
  ckptd::Json json = done.ok() ? done.take() : ckptd::error_answer(done.error());
  if (done.ok()) json["ok"] = true;
  std::cout << ckptd::dump(json) << std::endl;
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app("Stands between libvirt and ckpt; started by ckptd and ckptctl.", "libvirt-bridge");
  app.set_version_flag("--version", std::string("libvirt-bridge " CKPT_VERSION));
  std::string uri;
  ckptd::RunDir run_dir;
  int parent = 0;
  Wish wish;
  app.add_option("--connect", uri, "libvirt's URI; not for image, which asks nothing of it")->type_name("URI");
  app.add_option("--run-dir", run_dir.path, "ckptd's --run-dir")->type_name("DIR")->capture_default_str();
  app.require_subcommand(1);
  app.fallthrough();
  auto* follow = app.add_subcommand("follow", "Keep RUN_DIR/libvirt what libvirt says, until process PID ends");
  follow->add_option("PID", parent, "ckptd")->required();
  auto* protect = app.add_subcommand("protect", "Put the protection element into a domain");
  protect->add_option("DOMAIN", wish.domain, "Name or UUID")->required();
  protect->add_option("--interval", wish.interval, "Time between checkpoints")->type_name("TIME");
  protect->add_option("--retention", wish.retention, "What is kept")->type_name("RULES");
  protect->add_option("--consistent", wish.consistent, "Time between application-consistent points")->type_name("TIME");
  auto* unprotect = app.add_subcommand("unprotect", "Take it out");
  unprotect->add_option("DOMAIN", wish.domain, "Name or UUID")->required();
  DomainDisks disks;
  auto* define = app.add_subcommand("define-disks", "A restored domain's disks are those of its next start too");
  auto* pull = app.add_subcommand("pull-disks", "Bring them home, or see how they stand");
  for (auto* command : {define, pull}) {
    command->add_option("--bandwidth", disks.bandwidth_bytes_s, "Bytes a second, of all; 0: no limit")->type_name("N");
    command->add_option("DOMAIN", disks.uuid, "Its UUID")->required();
    command->add_option("DISK", disks.disks, "Their targets, or their images");
  }
  std::string frozen;
  std::int64_t freeze_limit_ms = 10'000;
  auto* freeze = app.add_subcommand("freeze", "Freeze a domain's file systems, and thaw them when told to");
  auto* thaw = app.add_subcommand("thaw", "Thaw them");
  freeze->add_option("--limit", freeze_limit_ms, "Milliseconds after which it thaws by itself")->capture_default_str();
  for (auto* command : {freeze, thaw}) command->add_option("DOMAIN", frozen, "Its UUID")->required();
  std::string wishes;
  auto* snapshots = app.add_subcommand("snapshots", "A domain's snapshots are these points of its machine");
  snapshots->add_option("WISHES", wishes, "JSON: see snapshots.h")->required();
  Wanted wanted;
  auto* image = app.add_subcommand("image", "Write a checkpoint as a save image");
  image->add_option("MACHINE", wanted.machine, "Machine")->required();
  image->add_option("POINT", wanted.point, "Checkpoint of it")->required();
  image->add_option("FILE", wanted.file, "Where; default: MACHINE@NUMBER.save here");
  CloneWish copy;
  auto* clone = app.add_subcommand("clone", "Run a checkpoint as another domain");
  clone->add_flag("--paused", copy.paused, "It does not run yet");
  clone->add_flag("--transient", copy.transient, "It is not defined");
  clone->add_flag("--connected", copy.connected, "Its network cards stay plugged in");
  clone->add_option("MACHINE", copy.machine, "Machine")->required();
  clone->add_option("POINT", copy.point, "Checkpoint of it")->required();
  clone->add_option("NEWNAME", copy.name, "Name of the clone")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ckpt::Code::invalid);
  }
  ::signal(SIGPIPE, SIG_IGN);
  if (*image) return answer(write_image(run_dir, wanted));
  if (uri.empty()) return answer(ckpt::make_error(ckpt::Code::invalid, "--connect is missing"));
  if (*clone) {
    // What libvirt has begun it ends: a clone is made or undone, also when nobody waits for it any more.
    for (int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_IGN);
    return answer(clone_domain(uri, run_dir, copy));
  }
  if (*freeze || *thaw) {
    DomainFreezer freezer(uri, frozen);
    return *freeze ? ckptd::hold_frozen(freezer, freeze_limit_ms) : ckptd::thaw_guest(freezer);
  }
  if (*define) return answer(define_disks(uri, disks));
  if (*pull) return answer(pull_disks(uri, disks));
  if (*snapshots) return answer(publish_snapshots(uri, run_dir, wishes));
  if (*protect) return answer(protect_domain(uri, run_dir, wish));
  if (*unprotect) return answer(unprotect_domain(uri, run_dir, wish.domain));
  follow_domains(uri, run_dir, parent);
  return 0;
}

}  // namespace
}  // namespace libvirt_hooks

int main(int argc, char** argv) { return libvirt_hooks::run(argc, argv); }
