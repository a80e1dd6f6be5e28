// SPDX-License-Identifier: LGPL-2.1-or-later
//
// JSON that comes from outside: parsed within limits, read with types checked, never throwing.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "ckpt/result.h"
#include "os/file.h"

namespace ckptd {

using Json = nlohmann::json;

inline constexpr std::size_t json_line_limit_bytes = 1 << 20;

// Errors: invalid (not JSON, not an object, deeper than 32), limit.
ckpt::Result<Json> parse_object(std::string_view text, std::size_t limit_bytes = json_line_limit_bytes);
std::string dump(const Json& json);  // one line; bytes that are not UTF-8 are replaced
std::string dump_pretty(const Json& json);

// Absent or null: the default. Another type: invalid, and the field is named.
ckpt::Result<std::string> string_field(const Json& object, const char* key, std::string fallback = {});
ckpt::Result<std::uint64_t> number_field(const Json& object, const char* key, std::uint64_t fallback = 0);
// The field must be there.
ckpt::Result<std::string> required_string(const Json& object, const char* key);
ckpt::Result<std::vector<std::string>> string_array(const Json& object, const char* key);

// For answers of our own making: a wrong type reads as the default.
std::string text_of(const Json& object, const char* key, const std::string& fallback = {});
std::uint64_t number_of(const Json& object, const char* key, std::uint64_t fallback = 0);
bool flag_of(const Json& object, const char* key);           // false when absent, or no flag
const Json& member_of(const Json& object, const char* key);  // null when absent, or when it is no object

Json error_answer(const ckpt::Error& error);
// Turns {"ok":false,…} back into an Error; other answers pass.
ckpt::Result<Json> check_answer(Json answer);

// Reads a whole small file and parses it.
ckpt::Result<Json> read_json_file(const std::string& path);
// Replaces it as a whole: readers see the old or the new content.
ckpt::Status write_json_file(const std::string& path, const Json& json, os::Durable durable);

}  // namespace ckptd
