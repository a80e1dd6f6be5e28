// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ckpt/result.h"

#include <cerrno>
#include <system_error>

#include "base/check.h"

namespace ckpt {

void detail::result_misused(const char* what) { check_failed("ckpt/result.h", 0, what); }

std::string_view code_name(Code code) {
  switch (code) {
    case Code::ok:
      return "ok";
    case Code::not_found:
      return "not found";
    case Code::exists:
      return "exists";
    case Code::invalid:
      return "invalid";
    case Code::corrupt:
      return "corrupt";
    case Code::protocol:
      return "protocol error";
    case Code::version:
      return "newer version";
    case Code::busy:
      return "busy";
    case Code::no_space:
      return "no space";
    case Code::io:
      return "I/O error";
    case Code::unavailable:
      return "unavailable";
    case Code::refused:
      return "refused";
    case Code::limit:
      return "limit";
    case Code::cancelled:
      return "cancelled";
  }
  return "unknown";
}

std::string Error::message() const {
  std::string text = context.empty() ? std::string(code_name(code)) : context;
  if (sys_errno != 0) text += ": " + std::generic_category().message(sys_errno);
  return text;
}

Error make_error(Code code, std::string context) { return {code, 0, std::move(context)}; }

Error system_error(int sys_errno, std::string context) {
  Code code = Code::io;
  if (sys_errno == ENOSPC || sys_errno == EDQUOT) code = Code::no_space;
  if (sys_errno == ENOENT) code = Code::not_found;
  return {code, sys_errno, std::move(context)};
}

}  // namespace ckpt
