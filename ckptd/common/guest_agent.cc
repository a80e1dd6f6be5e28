// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/guest_agent.h"

#include <algorithm>
#include <filesystem>

#include "ckpt/env.h"
#include "common/clock.h"
#include "common/paths.h"
#include "common/qemu_options.h"
#include "common/text.h"
#include "os/unix_socket.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t answer_limit_bytes = 64 << 10;
constexpr std::size_t command_line_limit_bytes = 1 << 20;
// Of earlier clients, before our own comes.
constexpr int answer_limit = 256;
constexpr std::size_t word_limit = 200;
constexpr char delimiter = '\xff';

// The guest's words, for a log and a terminal: short, on one line, nothing that moves a cursor.
std::string in_quotes(std::string text) {
  text.resize(std::min(text.size(), word_limit));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  return "'" + text + "'";
}

std::string seconds(std::int64_t ms) { return format_duration_ms(static_cast<std::uint64_t>(ms)); }

ckpt::Result<std::uint64_t> random_id() {
  std::array<std::uint8_t, 4> bytes;
  CKPT_TRY(ckpt::Env::system().random(bytes));
  std::uint64_t id = 0;
  for (std::uint8_t byte : bytes) id = id << 8 | byte;
  return id;
}

}  // namespace

ckpt::Result<Json> parse_agent_answer(std::string_view line) {
  // Before an answer to guest-sync-delimited stands a byte that is in no JSON: what was half said ends there.
  auto last = line.rfind(delimiter);
  CKPT_ASSIGN(Json said,
              parse_object(last == std::string_view::npos ? line : line.substr(last + 1), answer_limit_bytes));
  if (!said.contains("return") && !said.contains("error")) return make_error(Code::invalid, "no answer of an agent's");
  return said;
}

ckpt::Result<GuestAgent> GuestAgent::connect(const std::string& socket, std::int64_t limit_ms) {
  const std::int64_t deadline_ms = monotonic_ms() + limit_ms;
  CKPT_ASSIGN(os::Fd fd, os::connect_unix_at_once(socket));
  GuestAgent agent(socket, std::make_unique<LineChannel>(std::move(fd), answer_limit_bytes, limit_ms));
  CKPT_ASSIGN(std::uint64_t id, random_id());
  const std::string sync = dump({{"execute", "guest-sync-delimited"}, {"arguments", {{"id", id}}}});
  CKPT_TRY(agent.channel_->write_line(delimiter + sync));
  for (int answers = 0; answers < answer_limit; ++answers) {
    auto said = agent.read_answer(deadline_ms);
    if (!said.ok() && said.error().code != Code::invalid)
      return make_error(Code::unavailable, "no guest agent answers at " + socket + " within " + seconds(limit_ms) +
                                               ": qemu-guest-agent must run in the guest, and nobody else be "
                                               "connected there");
    if (said.ok() && member_of(*said, "return") == Json(id)) return agent;
  }
  return make_error(Code::protocol, "the guest agent at " + socket + " answers something else");
}

// invalid: a line that is no answer.
ckpt::Result<Json> GuestAgent::read_answer(std::int64_t deadline_ms) {
  CKPT_ASSIGN(auto line, channel_->read_line(LineChannel::no_limit, deadline_ms));
  if (!line) return make_error(Code::unavailable, "QEMU has closed the guest agent's channel");
  return parse_agent_answer(*line);
}

ckpt::Result<Json> GuestAgent::execute(const std::string& command, std::int64_t limit_ms) {
  CKPT_TRY(channel_->write_line(dump({{"execute", command}})));
  auto said = read_answer(monotonic_ms() + limit_ms);
  if (!said.ok())
    return make_error(said.error().code == Code::invalid ? Code::protocol : Code::unavailable,
                      "the guest agent does not answer " + command + " within " + seconds(limit_ms) + " (" +
                          said.error().message() + ")");
  if (const Json& error = member_of(*said, "error"); !error.is_null())
    return make_error(Code::refused,
                      "the guest agent, asked for " + command + ": " + in_quotes(text_of(error, "desc", "no reason")));
  return Json(member_of(*said, "return"));
}

ckpt::Result<std::uint64_t> GuestAgent::count(const std::string& command, std::int64_t limit_ms) {
  CKPT_ASSIGN(Json said, execute(command, limit_ms));
  if (!said.is_number_unsigned())
    return make_error(Code::protocol, "the guest agent answers " + command + " without a number");
  return said.get<std::uint64_t>();
}

std::optional<std::string> guest_agent_socket(const std::vector<std::string>& argv) {
  auto each = [&](std::string_view option, auto&& visit) {
    for (std::size_t i = 1; i + 1 < argv.size(); ++i) {
      if (argv[i] != option && argv[i] != "-" + std::string(option)) continue;
      if (auto options = QemuOptions::parse(argv[i + 1]); options.ok()) visit(*options);
    }
  };
  std::optional<std::string> id, path;
  each("-device", [&](const QemuOptions& port) {
    if (port.get("name") == "org.qemu.guest_agent.0") id = port.get("chardev");
  });
  if (!id) return std::nullopt;
  each("-chardev", [&](const QemuOptions& chardev) {
    if (chardev.get("id") == id) path = chardev.get("path");
  });
  return path;
}

ckpt::Result<std::string> guest_agent_socket(pid_t qemu) {
  const std::string process = "/proc/" + std::to_string(qemu);
  CKPT_ASSIGN(std::string words, os::read_file(process + "/cmdline", command_line_limit_bytes));
  auto socket = guest_agent_socket(split(words, '\0'));
  if (!socket || socket->empty())
    return make_error(Code::not_found,
                      "its QEMU has no channel to a guest agent: add -device virtio-serial -chardev "
                      "socket,id=ga0,path=PATH,server=on,wait=off -device "
                      "virtserialport,chardev=ga0,name=org.qemu.guest_agent.0");
  if (socket->starts_with('/')) return *socket;
  std::error_code error;
  auto directory = std::filesystem::read_symlink(process + "/cwd", error);
  if (error) return ckpt::system_error(error.value(), process + "/cwd");
  return whole_path((directory / *socket).string());
}

}  // namespace ckptd
