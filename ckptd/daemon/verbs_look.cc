// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Verbs that change nothing.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "common/clock.h"
#include "common/text.h"
#include "daemon/checkpoint_config.h"
#include "daemon/log.h"
#include "daemon/verbs.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::size_t list_chunk = 256;

const char* class_name(ckpt::ObjectClass object_class) {
  switch (object_class) {
    case ckpt::ObjectClass::ram:
      return "ram";
    case ckpt::ObjectClass::disk:
      return "disk";
    case ckpt::ObjectClass::device_state:
      return "device_state";
    case ckpt::ObjectClass::config:
      return "config";
  }
  return "unknown";
}

const char* run_state_name(ckpt::RunState state) {
  switch (state) {
    case ckpt::RunState::running:
      return "running";
    case ckpt::RunState::paused:
      return "paused";
    case ckpt::RunState::other:
      return "other";
  }
  return "other";
}

Json damage_json(const std::vector<ckpt::Damage>& found) {
  Json damage = Json::array();
  for (const auto& item : found) {
    Json reached = Json::array();
    for (const auto& id : item.checkpoints) reached.push_back(ckpt::to_string(id));
    damage.push_back({{"place", item.place}, {"reason", item.reason}, {"checkpoints", reached}});
  }
  return damage;
}

// What the last epoch cost QEMU: where a long pause comes from.
Json epoch_json(const ckpt::EpochFigures& epoch) {
  return {{"pause_us", epoch.pause_us},    {"drain_us", epoch.drain_us}, {"device_us", epoch.device_us},
          {"dirty_us", epoch.dirty_us},    {"copy_us", epoch.copy_us},   {"ram_pages", epoch.ram_pages},
          {"disk_bytes", epoch.disk_bytes}};
}

Json frozen_json(const std::optional<FrozenGuests::Guest>& guest) {
  if (!guest) return Json();
  return {{"since_ns", guest->note.since_ns}, {"reason", guest->note.reason}, {"trouble", guest->trouble}};
}

// What the machine itself cannot know of its domain.
void explain(MachineStatus& status, const Record& record) {
  if (record.domain.empty() || !status.reason.empty()) return;
  if (status.state == "off") status.reason = "libvirt does not run its domain, or not as a protected one";
  if (status.state == "waiting") status.reason = "its domain runs and its QEMU does not connect: see the domain's log";
}

}  // namespace

Json checkpoint_json(const ckpt::CheckpointInfo& info) {
  return {{"machine", info.id.machine},
          {"number", info.id.number},
          {"parent", info.parent.number ? Json(ckpt::to_string(info.parent)) : Json()},
          {"wall_clock_ns", info.wall_clock_ns},
          {"name", info.name},
          {"pins", info.pins},
          {"application_consistent", info.application_consistent},
          {"frozen", info.frozen},
          {"data_bytes", info.data_bytes},
          {"stored_bytes", info.stored_bytes}};
}

Json Verbs::machine_json(const std::string& name) {
  MachineStatus status;
  auto machine = daemon_.machine(name);
  if (machine) status = machine->status();
  auto records = daemon_.records();
  auto known = records.find(name);
  const Record record = known == records.end() ? Record{{}, {}, false} : known->second;
  if (!machine) status.state = record.is_protected && !record.domain.empty() ? "off" : "not protected";
  explain(status, record);
  std::uint64_t kept = 0;
  for (const auto& info : daemon_.store().machines())
    if (info.name == name) kept = info.checkpoint_count;
  // The newest that is kept, not the newest that was made: it may have been removed.
  Json newest_ns, rpo_ms, consistent_ns;
  if (auto newest = daemon_.resolve(name, "latest"); newest.ok()) {
    std::uint64_t now_ns = wall_clock_ns();
    newest_ns = newest->wall_clock_ns;
    rpo_ms = now_ns > newest->wall_clock_ns ? (now_ns - newest->wall_clock_ns) / 1'000'000 : 0;
  }
  if (auto points = daemon_.checkpoints(name); points.ok()) {
    auto newest =
        std::find_if(points->rbegin(), points->rend(), [](const auto& at) { return at.application_consistent; });
    if (newest != points->rend()) consistent_ns = newest->wall_clock_ns;
  }
  const auto& last = status.figures.last();
  return {{"name", name},
          {"state", status.state},
          {"reason", status.reason},
          {"connected", status.connected},
          {"domain", record.domain.empty() ? Json() : Json(record.domain)},
          {"interval_ms", record.policy.interval_ms},
          {"effective_interval_ms", status.figures.effective_interval_ms()},
          {"consistent_ms", record.policy.consistent_ms},
          {"newest_consistent_ns", consistent_ns},
          {"consistent_trouble", status.consistent_trouble},
          {"frozen", frozen_json(daemon_.frozen().find(name))},
          {"epoch", last.number},
          {"newest_wall_clock_ns", newest_ns},
          {"rpo_ms", rpo_ms},
          {"pause_p50_us", status.figures.pause_percentile_us(50)},
          {"pause_p99_us", status.figures.pause_percentile_us(99)},
          {"dirty_bytes", last.data_bytes},
          {"stored_bytes", last.stored_bytes},
          {"last_epoch", status.figures.epochs_total() ? epoch_json(last) : Json()},
          {"remaining_bytes", status.remaining_bytes},
          {"checkpoints", kept},
          {"epochs_total", status.figures.epochs_total()},
          {"failures", status.failures},
          {"qemu_version", status.qemu_version},
          {"machine_type", status.machine_type},
          {"base", status.base},
          {"retention", format_retention(record.policy)}};
}

Json Verbs::store_json() {
  auto stats = daemon_.store().stats();
  return {
      {"path", daemon_.options().store_path},  {"uuid", uuid_text(stats.uuid)},  {"segments", stats.segments},
      {"stored_bytes", stats.stored_bytes},    {"live_bytes", stats.live_bytes}, {"journal_bytes", stats.journal_bytes},
      {"checkpoints", stats.checkpoints},      {"free_bytes", stats.free_bytes}, {"damaged", stats.damaged},
      {"damage", damage_json(stats.uncounted)}};
}

ckpt::Result<Json> Verbs::overview(const std::string& machine) {
  auto names = daemon_.names();
  if (!machine.empty()) {
    CKPT_TRY(daemon_.checkpoints(machine));
    names = {machine};
  }
  Json machines = Json::array();
  for (const auto& name : names) machines.push_back(machine_json(name));
  return Json{{"store", store_json()},
              {"machines", machines},
              {"restores", supervisor_.list(machine)},
              {"unprotected", domains_.unprotected()},
              {"now_ns", wall_clock_ns()}};
}

ckpt::Result<Json> Verbs::hello(const Json&, const Reply&) {
  return Json{{"version", 1},
              {"program", "ckptd " CKPT_VERSION},
              {"pid", ::getpid()},
              {"store", daemon_.options().store_path},
              {"run_dir", daemon_.run_dir().path},
              {"libvirt", daemon_.options().libvirt_uri}};
}

ckpt::Result<Json> Verbs::status(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string machine, string_field(request, "machine"));
  return overview(machine);
}

ckpt::Result<Json> Verbs::watch(const Json& request, const Reply& reply) {
  CKPT_ASSIGN(std::string machine, string_field(request, "machine"));
  CKPT_ASSIGN(std::uint64_t count, number_field(request, "count", ~0ull));
  for (std::uint64_t i = 0; i + 1 < count; ++i) {
    CKPT_ASSIGN(Json json, overview(machine));
    if (!reply.more(std::move(json))) return make_error(Code::cancelled, "the client has gone");
    for (int wait = 0; wait < 10; ++wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      if (reply.gone()) return make_error(Code::cancelled, "stopped");
    }
  }
  return overview(machine);
}

ckpt::Result<Json> Verbs::list(const Json& request, const Reply& reply) {
  CKPT_ASSIGN(std::string machine, string_field(request, "machine"));
  std::vector<std::string> names = {machine};
  if (machine.empty()) names = daemon_.names();
  Json chunk = Json::array();
  for (const auto& name : names) {
    auto kept = daemon_.checkpoints(name);
    // Forgotten since its name was read.
    if (!kept.ok() && kept.error().code == Code::not_found && machine.empty()) continue;
    if (!kept.ok()) return kept.error();
    for (const auto& info : *kept) {
      chunk.push_back(checkpoint_json(info));
      if (chunk.size() < list_chunk) continue;
      if (!reply.more({{"checkpoints", std::move(chunk)}})) return make_error(Code::cancelled, "the client has gone");
      chunk = Json::array();
    }
  }
  return Json{{"checkpoints", chunk}};
}

ckpt::Result<Json> Verbs::describe(const ckpt::CheckpointId& id) {
  CKPT_ASSIGN(auto reader, daemon_.store().open_checkpoint(id));
  const auto& epoch = reader->epoch();
  Json objects = Json::array();
  for (const auto& object : reader->objects())
    objects.push_back({{"class", class_name(object.object_class)},
                       {"name", object.name},
                       {"size_bytes", object.size_bytes},
                       {"page_size_bytes", object.page_size_bytes},
                       {"read_only", (object.flags & 1) != 0}});
  CKPT_ASSIGN(Json config, read_config(*reader));
  return Json{{"checkpoint", checkpoint_json(reader->info())},
              {"epoch",
               {{"wall_clock_ns", epoch.wall_clock_ns},
                {"vm_clock_ns", epoch.vm_clock_ns},
                {"run_state", run_state_name(epoch.run_state)},
                {"pause_us", epoch.pause_us},
                {"instance", hex(epoch.instance)},
                {"qemu_version", epoch.qemu_version},
                {"machine_type", epoch.machine_type}}},
              {"objects", objects},
              {"config", config}};
}

ckpt::Result<Json> Verbs::show(const Json& request, const Reply&) {
  CKPT_ASSIGN(auto info, resolve(request));
  return describe(info.id);
}

ckpt::Result<Json> Verbs::restores(const Json& request, const Reply&) {
  CKPT_ASSIGN(std::string machine, string_field(request, "machine"));
  Json found = supervisor_.list(machine);
  if (found.empty() && !machine.empty()) {
    // None of a machine that is there, and of one that is not, are two things.
    CKPT_TRY(daemon_.checkpoints(machine));
  }
  return Json{{"restores", found}};
}

ckpt::Result<Json> Verbs::verify(const Json& request, const Reply& reply) {
  CKPT_ASSIGN(std::string machine, string_field(request, "machine"));
  CKPT_ASSIGN(std::string point, string_field(request, "point"));
  std::vector<ckpt::CheckpointId> ids;
  if (!point.empty()) {
    CKPT_ASSIGN(auto info, daemon_.resolve(machine, point));
    ids.push_back(info.id);
  } else if (!machine.empty()) {
    CKPT_ASSIGN(auto kept, daemon_.checkpoints(machine));
    for (const auto& info : kept) ids.push_back(info.id);
    if (ids.empty()) return Json{{"damage", Json::array()}, {"copied_anew", Json::array()}, {"checkpoints", 0}};
  }
  struct Context {
    const Reply& reply;
    std::int64_t next_ms;
  } context{reply, monotonic_ms() + 250};
  auto progress = [](void* opaque, const ckpt::VerifyProgress& state) {
    auto& at = *static_cast<Context*>(opaque);
    if (monotonic_ms() < at.next_ms) return true;
    at.next_ms = monotonic_ms() + 250;
    if (at.reply.gone()) return false;
    return at.reply.more({{"progress", {{"done_bytes", state.done_bytes}, {"total_bytes", state.total_bytes}}}});
  };
  CKPT_ASSIGN(auto found, daemon_.store().verify(ids, progress, &context));
  // Whether anybody still waits for the answer or not.
  Json copied_anew = daemon_.copy_anew(found.damages);
  if (found.cancelled) return make_error(Code::cancelled, "the client has gone");
  return Json{{"damage", damage_json(found.damages)},
              {"copied_anew", std::move(copied_anew)},
              {"checkpoints", found.checkpoints}};
}

}  // namespace ckptd
