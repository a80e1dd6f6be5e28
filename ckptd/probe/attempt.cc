// SPDX-License-Identifier: LGPL-2.1-or-later
#include "probe/attempt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t status_line_limit = 1024;

std::string question_of(const ProbeTarget& target) {
  if (target.kind == ProbeTarget::Kind::tcp) return target.line.empty() ? "" : target.line + "\r\n";
  std::string host = target.host.find(':') == std::string::npos ? target.host : "[" + target.host + "]";
  return "GET " + target.path + " HTTP/1.0\r\nHost: " + host + "\r\nUser-Agent: ckpt\r\nConnection: close\r\n\r\n";
}

}  // namespace

ckpt::Result<Addresses> resolve(const ProbeTarget& target) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  int failed = ::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &list);
  if (failed)
    return make_error(Code::not_found, "probe '" + target.text + "': " + target.host + ": " + ::gai_strerror(failed));
  return Addresses(list);
}

Attempt::Attempt(const ProbeTarget& target, const addrinfo* address, std::int64_t now_us)
    : target_(&target), begun_us_(now_us) {
  if (target.kind == ProbeTarget::Kind::exec)
    begin_command();
  else
    begin_connection(*address);
}

Attempt::~Attempt() {
  if (child_ <= 0) return;
  ::kill(-child_, SIGKILL);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Attempt::begin_connection(const addrinfo& address) {
  fd_ = os::Fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd_ && ::connect(fd_.get(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS) {
    reason_ = std::strerror(errno);
    fd_.reset();
  }
}

void Attempt::begin_command() {
  sent_ = true;  // nothing to write; the pidfd becomes readable
  child_ = ::fork();
  if (child_ == 0) {
    ::setpgid(0, 0);
    int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && null >= 0; ++fd) ::dup2(null, fd);
    ::close_range(3, ~0u, 0);
    ::execl("/bin/sh", "sh", "-c", target_->command.c_str(), nullptr);
    ::_exit(127);
  }
  if (child_ < 0) {
    reason_ = std::strerror(errno);
    return;
  }
  ::setpgid(child_, child_);
  fd_ = os::Fd(static_cast<int>(::syscall(SYS_pidfd_open, child_, 0)));
}

Attempt::Outcome Attempt::fail(std::string reason) {
  reason_ = std::move(reason);
  return Outcome::failed;
}

Attempt::Outcome Attempt::step() {
  if (!fd_) return Outcome::failed;
  if (target_->kind == ProbeTarget::Kind::exec) return step_command();
  if (!sent_) {
    Outcome outcome = send_question();
    if (outcome != Outcome::pending || !sent_) return outcome;
  }
  return read_answer();
}

Attempt::Outcome Attempt::step_command() {
  int status = 0;
  pid_t ended = ::waitpid(child_, &status, WNOHANG);
  if (ended == 0) return Outcome::pending;
  child_ = 0;
  if (ended > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return Outcome::answered;
  return fail(ended > 0 && WIFEXITED(status) ? "exit status " + std::to_string(WEXITSTATUS(status)) : "killed");
}

Attempt::Outcome Attempt::send_question() {
  pollfd item{fd_.get(), POLLOUT, 0};
  if (::poll(&item, 1, 0) == 0) return Outcome::pending;
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error) return fail(std::strerror(error));
  std::string question = question_of(*target_);
  // A fresh connection takes a few KiB at once.
  if (!question.empty() &&
      ::send(fd_.get(), question.data(), question.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(question.size()))
    return fail("the question cannot be sent");
  sent_ = true;
  return Outcome::pending;
}

Attempt::Outcome Attempt::read_answer() {
  char bytes[256];
  ssize_t got = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Outcome::pending;
  if (got < 0) return fail(std::strerror(errno));
  if (got == 0) return fail("connected, but closed without an answer");
  if (target_->kind == ProbeTarget::Kind::tcp) return Outcome::answered;
  answer_.append(bytes, static_cast<std::size_t>(got));
  return check_status();
}

// "HTTP/1.1 200 OK"
Attempt::Outcome Attempt::check_status() {
  if (answer_.find('\n') == std::string::npos)
    return answer_.size() < status_line_limit ? Outcome::pending : fail("no HTTP answer");
  std::size_t space = answer_.find(' ');
  bool http = answer_.starts_with("HTTP/") && space != std::string::npos && answer_.size() > space + 3;
  unsigned status = 0;
  for (std::size_t i = 1; http && i <= 3; ++i) {
    char c = answer_[space + i];
    if (c < '0' || c > '9') return fail("no HTTP answer");
    status = status * 10 + static_cast<unsigned>(c - '0');
  }
  if (!http) return fail("no HTTP answer");
  bool wanted = target_->http_status ? status == target_->http_status : status >= 200 && status < 400;
  return wanted ? Outcome::answered : fail("HTTP status " + std::to_string(status));
}

}  // namespace ckptd
