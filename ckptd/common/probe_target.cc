// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/probe_target.h"

#include <algorithm>

#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t probe_limit_bytes = 4096;

ckpt::Error not_understood(const std::string& text, const std::string& why) {
  return make_error(Code::invalid,
                    "probe '" + text + "': " + why +
                        "; give tcp:HOST:PORT[=LINE], http://HOST[:PORT][/PATH][=STATUS] or exec:COMMAND");
}

// HOST, HOST:PORT or [ADDRESS]:PORT.
ckpt::Status read_authority(const std::string& authority, ProbeTarget& target) {
  std::size_t colon = authority.rfind(':');
  if (authority.starts_with('[')) {
    std::size_t end = authority.find(']');
    if (end == std::string::npos) return not_understood(target.text, "']' is missing");
    target.host = authority.substr(1, end - 1);
    colon = end + 1 < authority.size() ? end + 1 : std::string::npos;
    if (colon != std::string::npos && authority[colon] != ':') return not_understood(target.text, "no port after ']'");
  } else {
    target.host = authority.substr(0, colon);
  }
  if (colon != std::string::npos) target.port = authority.substr(colon + 1);
  if (target.host.empty()) return not_understood(target.text, "no host");
  bool digits = all_digits(target.port) && target.port.size() <= 5;
  if (!digits || std::stoul(target.port) == 0 || std::stoul(target.port) > 65535)
    return not_understood(target.text, "a port is a number from 1 to 65535");
  return {};
}

ckpt::Status read_tcp(const std::string& rest, ProbeTarget& target) {
  std::size_t equals = rest.find('=');
  if (equals != std::string::npos) target.line = rest.substr(equals + 1);
  return read_authority(rest.substr(0, equals), target);
}

ckpt::Status read_http(std::string rest, ProbeTarget& target) {
  // Only three digits after the last '=' are a status: a query may hold others.
  std::size_t equals = rest.rfind('=');
  if (equals != std::string::npos && rest.size() - equals == 4 && all_digits(rest.substr(equals + 1))) {
    target.http_status = static_cast<unsigned>(std::stoul(rest.substr(equals + 1)));
    rest.resize(equals);
  }
  std::size_t slash = rest.find('/');
  target.path = slash == std::string::npos ? "/" : rest.substr(slash);
  target.port = "80";
  return read_authority(rest.substr(0, slash), target);
}

}  // namespace

ckpt::Result<ProbeTarget> parse_probe(const std::string& text) {
  ProbeTarget target;
  target.text = text;
  bool control = std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 32; });
  if (text.size() > probe_limit_bytes || control)
    return not_understood(text.substr(0, 64), "it is longer than 4096 bytes or has control characters");
  if (text.starts_with("tcp:")) {
    CKPT_TRY(read_tcp(text.substr(4), target));
  } else if (text.starts_with("http://")) {
    target.kind = ProbeTarget::Kind::http;
    CKPT_TRY(read_http(text.substr(7), target));
  } else if (text.starts_with("exec:") && text.size() > 5) {
    target.kind = ProbeTarget::Kind::exec;
    target.command = text.substr(5);
  } else {
    return not_understood(text, "of no known kind");
  }
  return target;
}

}  // namespace ckptd
