// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/qemu_options.h"

#include <algorithm>

#include "common/json.h"

namespace ckptd {

namespace {

bool matches(std::string_view key, std::string_view pattern) {
  return key == pattern || (!pattern.empty() && pattern.back() == '.' && key.starts_with(pattern));
}

// Splits at single commas and undoes doubled ones.
std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      words.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      words.back() += ',';
      ++i;
    } else {
      words.emplace_back();
    }
  }
  return words;
}

}  // namespace

std::string double_commas(const std::string& value) {
  std::string doubled;
  for (char c : value) doubled += c == ',' ? std::string(",,") : std::string(1, c);
  return doubled;
}

ckpt::Status QemuOptions::flatten(const std::string& prefix, const std::string& json_text) {
  Json json = Json::parse(json_text, nullptr, false);
  for (auto& [key, value] : json.items()) {
    std::string name = prefix + key;
    if (name.find('.', prefix.size()) != std::string::npos)
      return ckpt::make_error(ckpt::Code::invalid, "JSON option with a '.' in its key: '" + name + "'");
    if (value.is_object() && !value.empty())
      CKPT_TRY(flatten(name + ".", dump(value)));
    else
      entries_.push_back({name, dump(value)});
  }
  return {};
}

ckpt::Result<QemuOptions> QemuOptions::parse(std::string_view text) {
  QemuOptions options;
  if (text.starts_with("{")) {
    auto json = parse_object(text);
    if (!json.ok())
      return ckpt::make_error(json.error().code,
                              "QEMU option " + std::string(text.substr(0, 120)) + ": " + json.error().message());
    options.json_ = true;
    CKPT_TRY(options.flatten("", std::string(text)));
    return options;
  }
  for (const auto& word : split_words(text)) {
    if (word.empty()) continue;
    auto equals = word.find('=');
    bool implied = equals == std::string::npos && options.entries_.empty();
    std::string name = implied ? "" : word.substr(0, equals);
    // Written again, they would be read as something else.
    if (equals == 0 || (options.entries_.empty() && word[0] == '{') || name.find(',') != std::string::npos)
      return ckpt::make_error(ckpt::Code::invalid, "QEMU option " + std::string(text.substr(0, 120)) + ": '" +
                                                       word.substr(0, 80) + "' has no name that QEMU knows");
    options.entries_.push_back({name, implied ? word : equals == std::string::npos ? "on" : word.substr(equals + 1)});
  }
  return options;
}

std::string QemuOptions::text() const {
  if (json_) {
    Json json = Json::object();
    for (const auto& entry : entries_) {
      Json* at = &json;
      std::size_t begin = 0;
      for (std::size_t dot; (dot = entry.key.find('.', begin)) != std::string::npos; begin = dot + 1)
        at = &(*at)[entry.key.substr(begin, dot - begin)];
      (*at)[entry.key.substr(begin)] = Json::parse(entry.value, nullptr, false);
    }
    return dump(json);
  }
  std::string all;
  for (const auto& entry : entries_) {
    if (!all.empty()) all += ',';
    all += entry.key.empty() ? double_commas(entry.value) : entry.key + "=" + double_commas(entry.value);
  }
  return all;
}

std::string QemuOptions::implied() const {
  if (json_) return get("driver").value_or(get("qom-type").value_or(""));
  if (!entries_.empty() && entries_[0].key.empty()) return entries_[0].value;
  return get("driver").value_or(get("qom-type").value_or(""));
}

std::optional<std::string> QemuOptions::get(std::string_view key) const {
  // The last one counts, as in QEMU.
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    if (entry->key != key) continue;
    if (!json_) return entry->value;
    Json value = Json::parse(entry->value, nullptr, false);
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
    return entry->value;
  }
  return std::nullopt;
}

bool QemuOptions::is_on(std::string_view key) const {
  auto value = get(key);
  return value && (*value == "on" || *value == "yes" || *value == "true" || *value == "y");
}

bool QemuOptions::has_prefix(std::string_view prefix) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.key.starts_with(prefix); });
}

void QemuOptions::set(std::string_view key, std::string_view value) {
  std::string stored = json_ ? dump(Json(std::string(value))) : std::string(value);
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    if (entry->key != key) continue;
    entry->value = stored;
    return;
  }
  entries_.push_back({std::string(key), stored});
}

void QemuOptions::remove(std::string_view key) {
  std::erase_if(entries_, [&](const Entry& entry) { return matches(entry.key, key); });
}

void QemuOptions::keep_only(const std::vector<std::string_view>& keys) {
  std::erase_if(entries_, [&](const Entry& entry) {
    return std::none_of(keys.begin(), keys.end(), [&](std::string_view key) { return matches(entry.key, key); });
  });
}

}  // namespace ckptd
