// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/json.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr int depth_limit = 32;

// dump() and destructors recurse, so depth is bounded before anything is built.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > depth_limit) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

const Json* find(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

// JSON text gives unsigned numbers, JSON made in this process may hold the same as signed ones.
bool is_whole(const Json& field) {
  return field.is_number_unsigned() || (field.is_number_integer() && field.get<std::int64_t>() >= 0);
}

}  // namespace

ckpt::Result<Json> parse_object(std::string_view text, std::size_t limit_bytes) {
  if (text.size() > limit_bytes)
    return make_error(Code::limit, "JSON text of " + std::to_string(text.size()) + " bytes: at most " +
                                       std::to_string(limit_bytes) + " are allowed");
  if (too_deep(text)) return make_error(Code::invalid, "JSON nested deeper than 32");
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return make_error(Code::invalid, "not JSON");
  if (!json.is_object()) return make_error(Code::invalid, "JSON, but not an object");
  return json;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
std::string dump_pretty(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace); }

ckpt::Result<std::string> string_field(const Json& object, const char* key, std::string fallback) {
  const Json* field = find(object, key);
  if (!field) return fallback;
  if (!field->is_string()) return make_error(Code::invalid, std::string("field '") + key + "' is not a string");
  return field->get<std::string>();
}

ckpt::Result<std::uint64_t> number_field(const Json& object, const char* key, std::uint64_t fallback) {
  const Json* field = find(object, key);
  if (!field) return fallback;
  if (!is_whole(*field))
    return make_error(Code::invalid, std::string("field '") + key + "' is not a whole number from 0");
  return field->get<std::uint64_t>();
}

ckpt::Result<std::string> required_string(const Json& object, const char* key) {
  CKPT_ASSIGN(std::string value, string_field(object, key));
  if (value.empty()) return make_error(Code::invalid, std::string("field '") + key + "' is missing");
  return value;
}

ckpt::Result<std::vector<std::string>> string_array(const Json& object, const char* key) {
  const Json* field = find(object, key);
  std::vector<std::string> values;
  if (!field) return values;
  if (!field->is_array()) return make_error(Code::invalid, std::string("field '") + key + "' is not an array");
  for (const Json& item : *field) {
    if (!item.is_string()) return make_error(Code::invalid, std::string("field '") + key + "' holds more than strings");
    values.push_back(item.get<std::string>());
  }
  return values;
}

std::string text_of(const Json& object, const char* key, const std::string& fallback) {
  const Json* field = find(object, key);
  return field && field->is_string() ? field->get<std::string>() : fallback;
}

bool flag_of(const Json& object, const char* key) {
  const Json& value = member_of(object, key);
  return value.is_boolean() && value.get<bool>();
}

const Json& member_of(const Json& object, const char* key) {
  static const Json null;
  auto it = object.is_object() ? object.find(key) : object.end();
  return it == object.end() ? null : *it;
}

std::uint64_t number_of(const Json& object, const char* key, std::uint64_t fallback) {
  const Json* field = find(object, key);
  return field && is_whole(*field) ? field->get<std::uint64_t>() : fallback;
}

Json error_answer(const ckpt::Error& error) {
  return {{"ok", false},
          {"error",
           {{"code", std::string(ckpt::code_name(error.code))},
            {"number", static_cast<int>(error.code)},
            {"message", error.message()}}}};
}

ckpt::Result<Json> check_answer(Json answer) {
  const Json* ok = find(answer, "ok");
  if (ok && ok->is_boolean() && ok->get<bool>()) return answer;
  const Json* error = find(answer, "error");
  if (!error) return make_error(Code::protocol, "ckptd's answer is neither ok nor an error");
  auto number = number_of(*error, "number", static_cast<std::uint64_t>(Code::io));
  if (number == 0 || number > static_cast<std::uint64_t>(Code::cancelled))
    number = static_cast<std::uint64_t>(Code::io);
  return make_error(static_cast<Code>(number), text_of(*error, "message", "no reason given"));
}

ckpt::Result<Json> read_json_file(const std::string& path) {
  CKPT_ASSIGN(std::string text, os::read_file(path, json_line_limit_bytes));
  auto json = parse_object(text);
  if (!json.ok()) return make_error(json.error().code, path + ": " + json.error().message());
  return json;
}

ckpt::Status write_json_file(const std::string& path, const Json& json, os::Durable durable) {
  return os::replace_file(path, dump_pretty(json) + "\n", durable);
}

}  // namespace ckptd
