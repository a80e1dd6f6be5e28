// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/block_jobs.h"

#include <algorithm>

#include "common/qmp.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

// A disk's name may hold what a job's may not; its place in the restore's list stays.
std::string job_name(std::size_t disk) { return "ckpt-stream-" + std::to_string(disk); }

bool has_job(const Json& jobs, std::size_t disk) {
  for (const Json& job : jobs)
    if (text_of(job, "device") == job_name(disk)) return true;
  return false;
}

// The node whose image is the disk's overlay, with what QEMU says of it; null when there is none.
Json find_overlay(const Json& nodes, const std::string& overlay) {
  for (const Json& node : nodes)
    if (text_of(node, "drv") == "qcow2" && text_of(node, "file") == overlay) return node;
  return {};
}

// The disks share the bandwidth that was allowed; memory has all of its own by now. For QEMU 0 is no limit, too.
std::uint64_t share_of_bandwidth(const RestoreState& state) {
  if (state.bandwidth_bytes_s == 0) return 0;
  return std::max<std::uint64_t>(1, state.bandwidth_bytes_s / state.disks.size());
}

ckpt::Result<Json> query_nodes(Qmp& qmp) { return qmp.execute("query-named-block-nodes", {{"flat", true}}); }

}  // namespace

ckpt::Result<std::vector<RestoredDisk>> start_block_streams(const RestoreState& state, int stop_fd) {
  CKPT_ASSIGN(Qmp qmp, Qmp::connect(state.qmp, Qmp::usual_limit_ms, stop_fd));
  CKPT_ASSIGN(Json jobs, qmp.execute("query-block-jobs"));
  CKPT_ASSIGN(Json nodes, query_nodes(qmp));
  auto disks = state.disks;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    auto& disk = disks[i];
    if (disk.local || has_job(jobs, i)) continue;
    Json node = find_overlay(nodes, disk.overlay);
    if (node.is_null()) return make_error(Code::not_found, "QEMU has no block node of " + disk.overlay);
    disk.node = text_of(node, "node-name");
    auto started = qmp.execute("block-stream",
                               {{"job-id", job_name(i)}, {"device", disk.node}, {"speed", share_of_bandwidth(state)}});
    if (!started.ok()) return make_error(started.error().code, "disk " + disk.name + ": " + started.error().message());
    disk.streaming = true;
  }
  return disks;
}

ckpt::Result<std::vector<RestoredDisk>> check_block_streams(const RestoreState& state, int stop_fd) {
  CKPT_ASSIGN(Qmp qmp, Qmp::connect(state.qmp, Qmp::usual_limit_ms, stop_fd));
  CKPT_ASSIGN(Json jobs, qmp.execute("query-block-jobs"));
  CKPT_ASSIGN(Json nodes, query_nodes(qmp));
  auto disks = state.disks;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    auto& disk = disks[i];
    if (disk.local || has_job(jobs, i)) continue;
    Json node = find_overlay(nodes, disk.overlay);
    if (!node.is_null() && !text_of(node, "backing_file").empty())
      return make_error(Code::cancelled, "disk " + disk.name + ": its stream job has ended early and is started again");
    disk.local = true;
    disk.streaming = false;
  }
  return disks;
}

}  // namespace ckptd
