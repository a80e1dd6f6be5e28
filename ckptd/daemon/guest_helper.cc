// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/guest_helper.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/paths.h"
#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t answer_limit_bytes = 64 << 10;

ckpt::Result<std::vector<std::string>> command_of(const FrozenNote& note, GuestHelper::Task task,
                                                  const std::string& libvirt_uri, std::int64_t limit_ms) {
  const bool hold = task == GuestHelper::Task::hold;
  std::vector<std::string> argv;
  if (note.domain.empty()) {
    CKPT_ASSIGN(std::string program, find_guest_freeze());
    argv = {program, "--socket", note.socket, hold ? "hold" : "thaw"};
  } else {
    if (libvirt_uri.empty())
      return make_error(Code::refused,
                        "libvirt has the agent of its domains, and ckptd follows no libvirt: start it with --libvirt "
                        "qemu:///system");
    CKPT_ASSIGN(std::string program, find_libvirt_bridge());
    argv = {program, "--connect", libvirt_uri, hold ? "freeze" : "thaw", note.domain};
  }
  if (hold) argv.insert(argv.end(), {"--limit", std::to_string(limit_ms)});
  return argv;
}

}  // namespace

ckpt::Result<GuestHelper> GuestHelper::start(const FrozenNote& note, Task task, const std::string& libvirt_uri,
                                             std::int64_t limit_ms, int stop_fd) {
  CKPT_ASSIGN(auto argv, command_of(note, task, libvirt_uri, limit_ms));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return ckpt::system_error(errno, "socketpair");
  os::Fd own(ends[0]), its(ends[1]);
  GuestHelper helper;
  CKPT_ASSIGN(helper.process_, spawn_detached(argv, {.directory = "/", .talk = its.get()}));
  helper.stop_fd_ = stop_fd;
  helper.channel_ = std::make_unique<LineChannel>(std::move(own), answer_limit_bytes);
  helper.channel_->end_with(stop_fd);
  return helper;
}

ckpt::Result<Json> GuestHelper::answer(std::int64_t limit_ms) {
  auto line = channel_->read_line(limit_ms);
  if (!line.ok()) {
    pollfd stop{stop_fd_, POLLIN, 0};
    // One that hangs holds the agent's channel. When it is we who end, it is to go on.
    if (::poll(&stop, 1, 0) > 0) return make_error(Code::unavailable, "ckptd is stopping");
    terminate(process_, SIGKILL);
    return make_error(Code::unavailable,
                      "no answer within " + format_duration_ms(static_cast<std::uint64_t>(limit_ms)));
  }
  if (!*line) return make_error(Code::unavailable, "the process that freezes and thaws it has died");
  return parse_object(**line, answer_limit_bytes);
}

bool GuestHelper::silent() const {
  pollfd entry{channel_->fd().get(), POLLIN, 0};
  return !channel_->has_buffered() && ::poll(&entry, 1, 0) == 0;
}

}  // namespace ckptd
