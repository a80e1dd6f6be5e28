// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's domains as machines. What runs is said by the files that libvirt's hook and bridge leave in RUN_DIR/libvirt
// (doc/libvirt.md): they are read when this begins and whenever one changes. Neither waits for the other.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "common/libvirt_domain.h"
#include "daemon/daemon.h"
#include "os/fd.h"

namespace ckptd {

class LibvirtDomains {
public:
  // What runs already is protected when this returns.
  explicit LibvirtDomains(Daemon& daemon);
  ~LibvirtDomains();

  // Domains that run unprotected although they have a protection element, and why.
  Json unprotected() const;
  // ok unless a domain that runs, as the files say now, is this machine: then it is libvirt's to say how it is
  // protected. `cure`: what to do.
  ckpt::Status check_none_runs_as(const std::string& machine, const std::string& cure);

private:
  struct Known {
    std::string content;   // of the file
    LibvirtDomain domain;  // its name and UUID at least
    std::string error;     // why it is not protected
    bool is_protected = false;
    bool again = false;  // what is wrong is not the domain's fault and may pass
  };

  void run();
  void watch();
  void look();
  std::map<std::string, std::string> read_files() const;  // by UUID
  void take_in(const std::string& uuid, const std::string& content);
  void protect(Known& known);
  void end(Known& known);

  Daemon& daemon_;
  os::Fd inotify_;         // none: looked at once a second
  std::string complaint_;  // the last that was logged of the directory itself
  mutable std::mutex mutex_;
  std::map<std::string, Known> domains_;  // by UUID
  std::thread thread_;
};

}  // namespace ckptd
