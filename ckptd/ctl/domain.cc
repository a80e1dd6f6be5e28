// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ctl/domain.h"

#include <iostream>

#include "common/process.h"
#include "common/text.h"

namespace ckptd {

// It takes its time: libvirtd may be busy with the domain.
ckpt::Result<Json> ask_bridge(std::vector<std::string> arguments, std::int64_t limit_ms) {
  CKPT_ASSIGN(std::string bridge, find_libvirt_bridge());
  arguments.insert(arguments.begin(), bridge);
  CKPT_ASSIGN(std::string text, run_helper(arguments, limit_ms));
  CKPT_ASSIGN(Json parsed, parse_object(text));
  return check_answer(std::move(parsed));
}

ckpt::Result<std::optional<Json>> change_domain(const Context& context, const std::string& verb,
                                                const std::string& name, const PolicyOptions& options) {
  CKPT_ASSIGN(Json hello, context.request({{"verb", "hello"}}));
  std::string uri = text_of(hello, "libvirt");
  if (uri.empty()) return std::optional<Json>();
  std::vector<std::string> arguments = {"--connect", uri, "--run-dir", text_of(hello, "run_dir"), verb};
  if (!options.interval.empty()) arguments.insert(arguments.end(), {"--interval", options.interval});
  if (!options.retention.empty()) arguments.insert(arguments.end(), {"--retention", options.retention});
  if (!options.consistent.empty()) arguments.insert(arguments.end(), {"--consistent", options.consistent});
  arguments.insert(arguments.end(), {"--", name});
  CKPT_ASSIGN(Json answer, ask_bridge(std::move(arguments)));
  if (member_of(answer, "domain").is_null()) return std::optional<Json>();
  return std::optional(std::move(answer));
}

ckpt::Status write_image(const Context& context, const Target& target, const std::string& file) {
  const std::string point = target.point.empty() ? "latest" : target.point;
  std::vector<std::string> arguments = {"--run-dir", context.run_dir.path, "image", "--", target.machine, point};
  if (!file.empty()) arguments.push_back(file);
  CKPT_ASSIGN(Json answer, ask_bridge(std::move(arguments)));
  if (context.json)
    context.print_json(answer);
  else
    std::cout << text_of(answer, "file") << ": " << text_of(answer, "checkpoint") << " of "
              << format_time(number_of(answer, "wall_clock_ns")) << ", " << format_size(number_of(answer, "size_bytes"))
              << "; 'virsh restore' runs it\n";
  return {};
}

std::string domain_text(const Json& answer, const std::string& now) {
  std::string text = "domain " + text_of(answer, "domain") + " is " + now;
  if (!flag_of(answer, "running")) return text + " when it starts";
  std::string error = text_of(answer, "error");
  return error.empty() ? text : text + " from its next start on: " + error;
}

}  // namespace ckptd
