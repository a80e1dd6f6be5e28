// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace ckpt {

// Stable: the numbers are part of ckptd's protocol and of ckptctl's exit codes; add at the end only.
enum class Code {
  ok = 0,
  not_found = 1,     // no such store, machine, checkpoint, object or file
  exists = 2,        // the name is taken
  invalid = 3,       // the caller's argument is out of range or out of order
  corrupt = 4,       // stored bytes are not what was written; context names the place
  protocol = 5,      // a peer's bytes break the protocol
  version = 6,       // a format or protocol version newer than this code
  busy = 7,          // locked by someone else, or in use
  no_space = 8,      // disk or quota full
  io = 9,            // any other failure of a system call
  unavailable = 10,  // a peer or a store cannot be reached now; trying again may help
  refused = 11,      // understood, and not allowed
  limit = 12,        // a stated limit would be passed
  cancelled = 13,
};

std::string_view code_name(Code code);

// What went wrong: a stable code for programs, the system's errno where there was one (0 otherwise),
// and a context for people that names the thing and, where there is one, the cure.
struct Error {
  Code code = Code::io;
  int sys_errno = 0;
  std::string context;

  std::string message() const;
};

Error make_error(Code code, std::string context);
// Takes errno's value and maps it: ENOSPC and EDQUOT to no_space, ENOENT to not_found, others to io.
Error system_error(int sys_errno, std::string context);

namespace detail {
[[noreturn]] void result_misused(const char* what);
}

// A value or an Error. Nothing in libckpt throws across its API. Ask ok() first: to ask an error for its value, or a
// value for its error, is the caller's mistake, and ends the process with a word on stderr. After take() the value is
// moved from.
template <typename T>
class [[nodiscard]] Result {
public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& operator*() { return checked<0>(state_); }
  const T& operator*() const { return checked<0>(state_); }
  T* operator->() { return &checked<0>(state_); }
  const T* operator->() const { return &checked<0>(state_); }
  T take() { return std::move(checked<0>(state_)); }
  const Error& error() const { return checked<1>(state_); }

private:
  template <std::size_t index, typename State>
  static auto& checked(State& state) {
    auto* held = std::get_if<index>(&state);
    if (held == nullptr) detail::result_misused(index == 0 ? "the value of an error" : "the error of a success");
    return *held;
  }

  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    if (!error_) detail::result_misused("the error of a success");
    return *error_;
  }

private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace ckpt

// Leaves the function with the error of an expression that is a Status, or goes on.
#define CKPT_TRY(expression)                                                               \
  do {                                                                                     \
    if (auto ckpt_status_ = (expression); !ckpt_status_.ok()) return ckpt_status_.error(); \
  } while (0)

#define CKPT_JOIN_(a, b) a##b
#define CKPT_JOIN(a, b) CKPT_JOIN_(a, b)
#define CKPT_ASSIGN_(result, target, expression) \
  auto result = (expression);                    \
  if (!result.ok()) return result.error();       \
  target = result.take()
// CKPT_ASSIGN(auto x, f()): x is f()'s value, or the function leaves with f()'s error.
#define CKPT_ASSIGN(target, expression) CKPT_ASSIGN_(CKPT_JOIN(ckpt_result_, __LINE__), target, expression)
