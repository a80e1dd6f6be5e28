// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ctl/domain.h"

#include "common/process.h"

namespace ckptd {

namespace {

// libvirtd may be busy with the domain.
constexpr std::int64_t bridge_limit_ms = 60'000;

}  // namespace

ckpt::Result<std::optional<Json>> change_domain(const Context& context, const std::string& verb,
                                                const std::string& name, const PolicyOptions& options) {
  CKPT_ASSIGN(Json hello, context.request({{"verb", "hello"}}));
  std::string uri = text_of(hello, "libvirt");
  if (uri.empty()) return std::optional<Json>();
  CKPT_ASSIGN(std::string bridge, find_libvirt_bridge());
  std::vector<std::string> argv = {bridge, "--connect", uri, "--run-dir", text_of(hello, "run_dir"), verb};
  if (!options.interval.empty()) argv.insert(argv.end(), {"--interval", options.interval});
  if (!options.retention.empty()) argv.insert(argv.end(), {"--retention", options.retention});
  argv.insert(argv.end(), {"--", name});
  CKPT_ASSIGN(std::string text, run_helper(argv, bridge_limit_ms));
  CKPT_ASSIGN(Json parsed, parse_object(text));
  CKPT_ASSIGN(Json answer, check_answer(std::move(parsed)));
  if (member_of(answer, "domain").is_null()) return std::optional<Json>();
  return std::optional(std::move(answer));
}

std::string domain_text(const Json& answer, const std::string& now) {
  std::string text = "domain " + text_of(answer, "domain") + " is " + now;
  if (!flag_of(answer, "running")) return text + " when it starts";
  std::string error = text_of(answer, "error");
  return error.empty() ? text : text + " from its next start on: " + error;
}

}  // namespace ckptd
