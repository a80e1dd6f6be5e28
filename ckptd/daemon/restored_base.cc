// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/restored_base.h"

#include <unistd.h>

#include "ckpt/env.h"
#include "common/json.h"
#include "common/text.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

std::string path_of(const RunDir& run_dir, const std::string& machine) {
  return run_dir.restore(machine) + "/base.json";
}

}  // namespace

ckpt::Result<std::string> grant_base(const RunDir& run_dir, const std::string& machine,
                                     const ckpt::CheckpointInfo& source) {
  std::array<std::uint8_t, 16> secret;
  CKPT_TRY(ckpt::Env::system().random(secret));
  std::string base = source.id.machine + "/" + hex(secret) + "@" + std::to_string(source.id.number);
  CKPT_TRY(write_json_file(path_of(run_dir, machine),
                           {{"version", 1},
                            {"base", base},
                            {"machine", source.id.machine},
                            {"number", source.id.number},
                            {"wall_clock_ns", source.wall_clock_ns},
                            {"instance", hex(source.instance)}},
                           os::Durable::yes));
  return base;
}

ckpt::Result<std::string> granted_base(const RunDir& run_dir, const std::string& machine) {
  CKPT_ASSIGN(Json grant, read_json_file(path_of(run_dir, machine)));
  return required_string(grant, "base");
}

ckpt::Result<ckpt::CheckpointId> claim_base(const RunDir& run_dir, const ckpt::Store& store, const std::string& machine,
                                            const ckpt::StreamHello& hello) {
  std::string path = path_of(run_dir, machine);
  auto read = read_json_file(path);
  if (!read.ok()) return make_error(Code::refused, "no restore onto '" + machine + "' is known here");
  Json grant = read.take();
  CKPT_ASSIGN(std::string base, required_string(grant, "base"));
  if (number_of(grant, "version") != 1 || base != hello.base)
    return make_error(Code::refused, "it is not what the last restore onto '" + machine + "' was given");
  ckpt::CheckpointId id;
  CKPT_ASSIGN(id.machine, required_string(grant, "machine"));
  CKPT_ASSIGN(id.number, number_field(grant, "number"));
  auto source = store.checkpoint(id);
  if (!source.ok() || source->wall_clock_ns != number_of(grant, "wall_clock_ns") ||
      hex(source->instance) != text_of(grant, "instance"))
    return make_error(Code::not_found, "that checkpoint is no longer in the store");
  std::string claimant = text_of(grant, "claimed_by");
  if (claimant == hex(hello.instance)) return id;
  if (!claimant.empty())
    return make_error(Code::refused, "another QEMU has come with it before, whose memory is not this one's");
  grant["claimed_by"] = hex(hello.instance);
  CKPT_TRY(write_json_file(path, grant, os::Durable::yes));
  return id;
}

void revoke_base(const RunDir& run_dir, const std::string& machine) { ::unlink(path_of(run_dir, machine).c_str()); }

}  // namespace ckptd
