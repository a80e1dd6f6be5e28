// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/libvirt_snapshots.h"

#include <algorithm>
#include <filesystem>

#include "common/process.h"
#include "daemon/log.h"

namespace ckptd {

namespace {

constexpr int look_interval_ms = 30'000;
// libvirt takes 55 ms to let one go.
constexpr std::size_t snapshot_limit = 64;
// Of many new ones, each with its memory file.
constexpr std::int64_t bridge_limit_ms = 60'000;

bool is_held(const ckpt::CheckpointInfo& info) {
  return std::find(info.pins.begin(), info.pins.end(), snapshot_holder) != info.pins.end();
}

std::set<std::uint64_t> numbers_of(const Json& answer, const char* key) {
  std::set<std::uint64_t> numbers;
  for (const Json& number : answer.value(key, Json::array()))
    if (number.is_number_unsigned()) numbers.insert(number.get<std::uint64_t>());
  return numbers;
}

}  // namespace

std::vector<ckpt::CheckpointInfo> snapshot_points(const std::vector<ckpt::CheckpointInfo>& kept) {
  std::vector<ckpt::CheckpointInfo> points;
  for (auto info = kept.rbegin(); info != kept.rend() && points.size() < snapshot_limit; ++info)
    if (!info->name.empty() && !info->name.starts_with('.')) points.push_back(*info);
  std::reverse(points.begin(), points.end());
  return points;
}

std::string snapshot_parent(const ckpt::CheckpointInfo& info, const std::vector<ckpt::CheckpointInfo>& kept,
                            const std::vector<ckpt::CheckpointInfo>& points) {
  auto by_number = [](const ckpt::CheckpointInfo& at, std::uint64_t number) { return at.id.number < number; };
  for (ckpt::CheckpointId parent = info.parent; parent.number != 0 && parent.machine == info.id.machine;) {
    auto point = std::lower_bound(points.begin(), points.end(), parent.number, by_number);
    if (point != points.end() && point->id.number == parent.number) return point->name;
    auto at = std::lower_bound(kept.begin(), kept.end(), parent.number, by_number);
    if (at != kept.end() && at->id.number == parent.number)
      parent = at->parent;
    else if (at == kept.begin())
      break;
    else
      parent = std::prev(at)->id;
  }
  return "";
}

LibvirtSnapshots::LibvirtSnapshots(Daemon& daemon) : daemon_(daemon) {
  if (daemon.options().libvirt_uri.empty()) return;
  auto bridge = find_libvirt_bridge();
  // LibvirtBridge says why not.
  if (bridge.ok()) thread_ = std::thread([this, path = bridge.take()] { run(path); });
}

LibvirtSnapshots::~LibvirtSnapshots() {
  if (thread_.joinable()) thread_.join();
}

void LibvirtSnapshots::run(const std::string& bridge) {
  while (!daemon_.stopping()) {
    for (const auto& [machine, record] : daemon_.records())
      if (!record.domain.empty() && !daemon_.stopping()) look(bridge, machine, record.domain);
    daemon_.wait_for_names(look_interval_ms);
  }
}

Json LibvirtSnapshots::wishes(const std::vector<ckpt::CheckpointInfo>& kept, std::string& troubles) {
  const auto points = snapshot_points(kept);
  Json wished = Json::array();
  for (const auto& info : points) {
    auto opened = daemon_.store().open_checkpoint(info.id);
    if (opened.ok())
      wished.push_back({{"number", info.id.number},
                        {"wall_clock_ns", info.wall_clock_ns},
                        {"name", info.name},
                        {"parent", snapshot_parent(info, kept, points)},
                        {"pinned", is_held(info)}});
    else
      troubles += ": '" + info.name + "' is withdrawn: " + opened.error().message();
  }
  return wished;
}

ckpt::Result<Json> LibvirtSnapshots::ask(const std::string& bridge, const Json& wishes) const {
  auto text = run_helper({bridge, "--connect", daemon_.options().libvirt_uri, "--run-dir", daemon_.run_dir().path,
                          "snapshots", "--", dump(wishes)},
                         bridge_limit_ms);
  if (!text.ok()) return text.error();
  CKPT_ASSIGN(Json answer, parse_object(*text));
  return check_answer(std::move(answer));
}

void LibvirtSnapshots::look(const std::string& bridge, const std::string& machine, const std::string& uuid) {
  auto kept = daemon_.store().checkpoints(machine);
  if (!kept.ok()) return;
  std::string troubles;
  Json request = {{"machine", machine},
                  {"uuid", uuid},
                  {"directory", whole_path(daemon_.options().state_dir) + "/snapshots/" + machine},
                  {"points", wishes(*kept, troubles)}};
  // Nothing is to be published, and nothing has been.
  std::error_code error;
  if (request["points"].empty() && !std::filesystem::exists(text_of(request, "directory"), error) &&
      std::none_of(kept->begin(), kept->end(), is_held))
    return;
  auto answer = ask(bridge, request);
  if (answer.ok() && !answer->value("to_pin", Json::array()).empty()) {
    // What is published is pinned before.
    for (Json& point : request["points"])
      if (numbers_of(*answer, "to_pin").contains(number_of(point, "number")))
        point["pinned"] = daemon_.store().pin({machine, number_of(point, "number")}, std::string(snapshot_holder)).ok();
    kept = daemon_.store().checkpoints(machine);
    answer = ask(bridge, request);
  }
  if (!answer.ok()) return complain(machine, "its snapshots: " + answer.error().message());
  for (const Json& text : answer->value("troubles", Json::array()))
    if (text.is_string()) troubles += ": " + text.get<std::string>();
  if (kept.ok()) unpin_others(*kept, numbers_of(*answer, "published"), troubles);
  complain(machine, troubles.empty() ? "" : "its snapshots" + troubles);
}

void LibvirtSnapshots::unpin_others(const std::vector<ckpt::CheckpointInfo>& kept,
                                    const std::set<std::uint64_t>& published, std::string& troubles) {
  for (const auto& info : kept) {
    if (!is_held(info) || published.contains(info.id.number)) continue;
    auto unpinned = daemon_.store().unpin(info.id, std::string(snapshot_holder));
    if (!unpinned.ok() && unpinned.error().code != ckpt::Code::not_found) troubles += ": " + unpinned.error().message();
  }
}

void LibvirtSnapshots::complain(const std::string& machine, const std::string& text) {
  std::string& last = complaints_[machine];
  if (!text.empty() && text != last) log_line(machine + ": " + text);
  last = text;
}

}  // namespace ckptd
