// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A disk of a checkpoint as a read-only NBD export:
//   nbdkit -f -r -U SOCKET nbdkit-ckpt-plugin.so store=DIR checkpoint=NAME@N disk=NAME
// While the store is away, requests wait; damaged bytes are an I/O error and are never handed out.
#define NBDKIT_API_VERSION 2
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#include <nbdkit-plugin.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "source.h"

namespace {

using agent::may_pass;
using agent::Source;
using ckpt::Code;
using ckpt::Error;
using ckpt::ObjectClass;

constexpr unsigned retry_ns = 250'000'000;
constexpr std::size_t extents_limit = 1024;

// nbdkit keeps one plugin per process.
struct Export {
  std::string store, checkpoint, disk;
  ckpt::CheckpointId id;
  std::mutex lock;  // protects source while it is being opened
  std::unique_ptr<Source> source;
  std::size_t object = 0;
  std::uint64_t size_bytes = 0;
};
Export the_export;

// Waits before another try. False: the client has gone or nbdkit ends.
bool wait_after(const Error& error) {
  nbdkit_debug("waiting for the store: %s", error.message().c_str());
  return nbdkit_nanosleep(0, retry_ns) == 0;
}

int report(const Error& error) {
  nbdkit_error("%s", error.message().c_str());
  nbdkit_set_error(EIO);
  return -1;
}

ckpt::Status open_source() {
  std::lock_guard guard(the_export.lock);
  if (the_export.source) return {};
  CKPT_ASSIGN(auto source, Source::open(the_export.store, the_export.id));
  const auto& objects = source->objects();
  auto found = std::find_if(objects.begin(), objects.end(), [](const ckpt::Object& object) {
    return object.object_class == ObjectClass::disk && object.name == the_export.disk;
  });
  if (found == objects.end())
    return ckpt::make_error(Code::invalid, the_export.checkpoint + " has no disk '" + the_export.disk + "'");
  the_export.object = static_cast<std::size_t>(found - objects.begin());
  the_export.size_bytes = found->size_bytes;
  the_export.source = std::move(source);
  return {};
}

int ckpt_config(const char* key, const char* value) {
  std::string name = key;
  if (name == "store") {
    the_export.store = value;
  } else if (name == "checkpoint") {
    the_export.checkpoint = value;
  } else if (name == "disk") {
    the_export.disk = value;
  } else {
    nbdkit_error("unknown parameter '%s': known are store, checkpoint, disk", key);
    return -1;
  }
  return 0;
}

int ckpt_config_complete() {
  if (the_export.store.empty() || the_export.checkpoint.empty() || the_export.disk.empty()) {
    nbdkit_error("store=DIR, checkpoint=NAME@N and disk=NAME are required");
    return -1;
  }
  auto id = ckpt::parse_checkpoint_id(the_export.checkpoint);
  if (!id.ok()) {
    nbdkit_error("%s", id.error().context.c_str());
    return -1;
  }
  the_export.id = id.take();
  return 0;
}

// The store's I/O must begin in the process that serves, so not before the fork. A store that is away now may be back
// when a client comes; a wrong parameter never gets better.
int ckpt_after_fork() {
  auto opened = open_source();
  if (opened.ok() || may_pass(opened.error())) return 0;
  return report(opened.error());
}

void* ckpt_open(int) {
  for (;;) {
    auto opened = open_source();
    if (opened.ok()) return NBDKIT_HANDLE_NOT_NEEDED;
    if (!may_pass(opened.error()) || !wait_after(opened.error())) {
      (void)report(opened.error());
      return nullptr;
    }
  }
}

std::int64_t ckpt_get_size(void*) { return static_cast<std::int64_t>(the_export.size_bytes); }

int ckpt_yes(void*) { return 1; }

int ckpt_pread(void*, void* buffer, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
  std::span<std::uint8_t> out(static_cast<std::uint8_t*>(buffer), count);
  for (;;) {
    auto read = the_export.source->read(the_export.object, offset, out);
    if (read.ok()) return 0;
    if (!may_pass(read.error()) || !wait_after(read.error())) return report(read.error());
    (void)the_export.source->reopen(read.error());
  }
}

int ckpt_extents(void*, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, nbdkit_extents* out) {
  std::size_t limit = flags & NBDKIT_FLAG_REQ_ONE ? 1 : extents_limit;
  for (;;) {
    auto extents = the_export.source->extents(the_export.object, offset, count, limit);
    if (extents.ok()) {
      for (const ckpt::Extent& extent : *extents) {
        std::uint64_t end = std::min(extent.offset + extent.length, the_export.size_bytes);
        std::uint32_t type = extent.zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
        if (end > extent.offset && nbdkit_add_extent(out, extent.offset, end - extent.offset, type) == -1) return -1;
      }
      return 0;
    }
    if (!may_pass(extents.error()) || !wait_after(extents.error())) return report(extents.error());
    (void)the_export.source->reopen(extents.error());
  }
}

nbdkit_plugin make_plugin() {
  nbdkit_plugin made{};
  made.name = "ckpt";
  made.longname = "ckpt checkpoint disk";
  made.version = CKPT_VERSION;
  made.description = "a disk of a checkpoint, read-only";
  made.config_help =
      "store=DIR            the store\n"
      "checkpoint=NAME@N    the checkpoint\n"
      "disk=NAME            its disk";
  made.config = ckpt_config;
  made.config_complete = ckpt_config_complete;
  made.after_fork = ckpt_after_fork;
  made.open = ckpt_open;
  made.get_size = ckpt_get_size;
  made.can_multi_conn = ckpt_yes;
  made.can_extents = ckpt_yes;
  made.pread = ckpt_pread;
  made.extents = ckpt_extents;
  return made;
}

nbdkit_plugin plugin = make_plugin();

}  // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
