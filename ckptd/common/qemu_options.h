// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/result.h"

namespace ckptd {

// The value of one QEMU option: "key=value,key=value" with ",," for a comma, or JSON where QEMU takes it. What is
// not touched stays as it was.
class QemuOptions {
public:
  static ckpt::Result<QemuOptions> parse(std::string_view text);
  std::string text() const;

  // The first word without '=': a device's driver, an object's type.
  std::string implied() const;
  std::optional<std::string> get(std::string_view key) const;  // booleans as "on" and "off"
  bool is_on(std::string_view key) const;
  bool has_prefix(std::string_view prefix) const;
  void set(std::string_view key, std::string_view value);
  // Removes the key, or with a '.' at its end all keys that begin with it.
  void remove(std::string_view key);
  // Removes all but the given keys; "cache." stands for all that begin with it.
  void keep_only(const std::vector<std::string_view>& keys);
  bool json() const { return json_; }

private:
  struct Entry {
    std::string key;    // dotted; empty for the implied one
    std::string value;  // in JSON form: the value's JSON text
  };
  ckpt::Status flatten(const std::string& prefix, const std::string& json_text);

  bool json_ = false;
  std::vector<Entry> entries_;
};

// A value as it stands in such a list.
std::string double_commas(const std::string& value);

}  // namespace ckptd
