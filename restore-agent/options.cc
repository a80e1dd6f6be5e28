// SPDX-License-Identifier: LGPL-2.1-or-later
#include "options.h"

#include <getopt.h>
#include <sys/un.h>

#include <charconv>
#include <cstdio>

namespace agent {

using ckpt::Code;
using ckpt::make_error;
using ckpt::Result;

namespace {

constexpr char usage[] =
    R"(usage: restore-agent --store DIR --checkpoint NAME@N --socket PATH [OPTION...]
Fills the memory of a machine that is being restored, as it is needed.
  --store DIR            the store; only read
  --checkpoint NAME@N    what to restore
  --socket PATH          where QEMU's checkpoint-restore object connects to;
                         an agent started with the same path takes over
  --mode MODE            lazy: only what the guest touches; aggressive (default):
                         the rest as well, behind it; full: the rest at full speed
  --bandwidth BYTES      of pages a second that are fetched ahead;
                         0, the default: no limit. Faults are never held back
  --working-set FILE     pages that the machine touched first at its last restore:
                         fetched first, and recorded anew
  --status FILE          state and figures, JSON, replaced as a whole twice a second
  --control PATH         socket: 'status', 'watch', 'mode MODE', 'mark NAME',
                         'bandwidth BYTES', 'vcpus THREAD,…'; default: FILE.sock
                         beside --status
  --help, --version
Ends with 0 when all memory is there, 3 when the machine has gone.
)";

ckpt::Status check_socket_path(const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un{}.sun_path))
    return make_error(Code::invalid, "path of a socket is too long: " + path);
  return {};
}

ckpt::Status take_option(char option, const std::string& value, Options& options) {
  switch (option) {
    case 's':
      options.store = value;
      return {};
    case 'c': {
      CKPT_ASSIGN(options.checkpoint, ckpt::parse_checkpoint_id(value));
      return {};
    }
    case 'S':
      options.socket = value;
      return check_socket_path(value);
    case 'm': {
      CKPT_ASSIGN(options.mode, mode_from(value));
      return {};
    }
    case 'b': {
      CKPT_ASSIGN(options.bandwidth_bytes_s, bytes_from(value));
      return {};
    }
    case 'w':
      options.working_set = value;
      return {};
    case 't':
      options.status = value;
      return {};
    default:
      options.control = value;
      return check_socket_path(value);
  }
}

}  // namespace

Result<std::uint64_t> bytes_from(const std::string& text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end)
    return make_error(Code::invalid, "'" + text + "' is no number of bytes: try 104857600");
  return value;
}

const char* mode_name(Mode mode) {
  switch (mode) {
    case Mode::lazy:
      return "lazy";
    case Mode::aggressive:
      return "aggressive";
    case Mode::full:
      return "full";
  }
  return "";
}

Result<Mode> mode_from(const std::string& name) {
  for (Mode mode : {Mode::lazy, Mode::aggressive, Mode::full})
    if (name == mode_name(mode)) return mode;
  return make_error(Code::invalid, "'" + name + "' is no mode: lazy, aggressive or full");
}

Result<bool> parse_options(int argc, char** argv, Options& options) {
  static const option known[] = {{"store", required_argument, nullptr, 's'},
                                 {"checkpoint", required_argument, nullptr, 'c'},
                                 {"socket", required_argument, nullptr, 'S'},
                                 {"mode", required_argument, nullptr, 'm'},
                                 {"bandwidth", required_argument, nullptr, 'b'},
                                 {"working-set", required_argument, nullptr, 'w'},
                                 {"status", required_argument, nullptr, 't'},
                                 {"control", required_argument, nullptr, 'C'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {"version", no_argument, nullptr, 'V'},
                                 {}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    if (c == 'h' || c == 'V') {
      std::fputs(c == 'h' ? usage : "restore-agent " CKPT_VERSION "\n", stdout);
      return false;
    }
    if (c == '?')
      return make_error(Code::invalid,
                        std::string("unknown or incomplete option '") + argv[optind - 1] + "': see --help");
    CKPT_TRY(take_option(static_cast<char>(c), optarg, options));
  }
  if (optind != argc) return make_error(Code::invalid, std::string("unexpected '") + argv[optind] + "': see --help");
  if (options.store.empty() || options.checkpoint.number == 0 || options.socket.empty())
    return make_error(Code::invalid, "--store, --checkpoint and --socket are required: see --help");
  if (options.control.empty() && !options.status.empty()) options.control = options.status + ".sock";
  CKPT_TRY(check_socket_path(options.control));
  return true;
}

}  // namespace agent
