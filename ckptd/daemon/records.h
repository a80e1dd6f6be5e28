// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <string>

#include "common/json.h"
#include "common/policy.h"

namespace ckptd {

// What ckptd knows of a machine beside its checkpoints.
struct Record {
  Json config = Json::object();
  Policy policy;
  bool is_protected = true;
  bool start_anew = false;  // what the next checkpoints would build upon is damaged
  std::string domain;       // libvirt's UUID of it: it is protected while that runs; empty: it is none of libvirt's
};

// STORE/machines/NAME.json, one file a machine.
class Records {
public:
  explicit Records(const std::string& store_path) : directory_(store_path + "/machines") {}

  const std::string& directory() const { return directory_; }
  // Files that cannot be read are named in `complaints` and left alone.
  ckpt::Result<std::map<std::string, Record>> load(std::vector<std::string>& complaints) const;
  ckpt::Status save(const std::string& machine, const Record& record) const;
  void remove(const std::string& machine) const;

private:
  std::string directory_;
};

}  // namespace ckptd
