// SPDX-License-Identifier: LGPL-2.1-or-later
#include "control.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "os/unix_socket.h"

namespace agent {

namespace {

constexpr std::size_t clients_limit = 16;
constexpr std::size_t line_limit = 32 << 10;  // thousands of vCPUs
constexpr std::size_t output_limit = 256 << 10;

}  // namespace

void Control::add_to(std::vector<pollfd>& items) const {
  if (listener_) items.push_back({listener_.get(), POLLIN, 0});
  for (const Client& client : clients_)
    items.push_back({client.fd.get(), static_cast<short>(client.output.empty() ? POLLIN : POLLIN | POLLOUT), 0});
}

void Control::handle() {
  while (listener_) {
    auto fd = os::accept_unix(listener_);
    if (!fd.ok() && fd.error().code != ckpt::Code::refused) break;
    if (fd.ok() && clients_.size() < clients_limit) clients_.push_back(Client{.fd = fd.take()});
  }
  for (Client& client : clients_) {
    read_from(client);
    flush(client);
  }
  clients_.remove_if([](const Client& client) { return client.lost; });
}

void Control::read_from(Client& client) {
  std::array<char, 1024> buffer;
  ssize_t n = ::recv(client.fd.get(), buffer.data(), buffer.size(), 0);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) client.lost = true;
  if (n <= 0) return;
  client.input.append(buffer.data(), static_cast<std::size_t>(n));
  for (std::size_t end; (end = client.input.find('\n')) != std::string::npos;) {
    take_line(client, client.input.substr(0, end));
    client.input.erase(0, end + 1);
  }
  if (client.input.size() > line_limit) client.lost = true;
}

void Control::take_line(Client& client, const std::string& line) {
  if (line == "watch") client.watching = true;
  write_to(client, answer_(line == "watch" ? "status" : line));
}

void Control::write_to(Client& client, const std::string& line) {
  if (client.output.size() + line.size() > output_limit) {
    client.lost = true;
    return;
  }
  client.output += line + "\n";
}

void Control::flush(Client& client) {
  while (!client.output.empty() && !client.lost) {
    ssize_t n = ::send(client.fd.get(), client.output.data(), client.output.size(), MSG_NOSIGNAL);
    if (n > 0) {
      client.output.erase(0, static_cast<std::size_t>(n));
    } else {
      if (errno != EAGAIN && errno != EINTR) client.lost = true;
      return;
    }
  }
}

void Control::publish(const std::string& status) {
  for (Client& client : clients_) {
    if (client.watching) write_to(client, status);
    flush(client);
  }
}

}  // namespace agent
