// SPDX-License-Identifier: LGPL-2.1-or-later
#include "source.h"

#include <algorithm>

#include "options.h"

namespace agent {

using ckpt::CheckpointId;
using ckpt::Code;
using ckpt::Extent;
using ckpt::make_error;
using ckpt::Object;
using ckpt::Result;
using ckpt::Status;

namespace {

constexpr auto reopen_interval = std::chrono::milliseconds(250);

bool same_objects(const std::vector<Object>& a, const std::vector<Object>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Object& x, const Object& y) {
    return x.object_class == y.object_class && x.name == y.name && x.size_bytes == y.size_bytes;
  });
}

}  // namespace

Result<std::shared_ptr<Source::Opened>> Source::open_now() const {
  auto opened = std::make_shared<Opened>();
  CKPT_ASSIGN(opened->store, ckpt::Store::open(env_, path_, ckpt::StoreOptions{.read_only = true}));
  CKPT_ASSIGN(opened->reader, opened->store->open_checkpoint(id_));
  return opened;
}

Result<std::unique_ptr<Source>> Source::open(const std::string& store, const CheckpointId& id, ckpt::Env& env) {
  std::unique_ptr<Source> source(new Source(env, store, id));
  CKPT_ASSIGN(source->opened_, source->open_now());
  source->objects_ = source->opened_->reader->objects();
  source->info_ = source->opened_->reader->info();
  source->reopened_at_ = std::chrono::steady_clock::now();
  return source;
}

std::shared_ptr<Source::Opened> Source::current() {
  std::lock_guard guard(lock_);
  return opened_;
}

Status Source::read(std::size_t object, std::uint64_t offset, std::span<std::uint8_t> out) {
  return current()->reader->read(object, offset, out);
}

Result<std::vector<Extent>> Source::extents(std::size_t object, std::uint64_t offset, std::uint64_t length,
                                            std::size_t limit) {
  return current()->reader->extents(object, offset, length, limit);
}

Status Source::prepare(std::size_t object, std::uint64_t first, std::uint64_t end) {
  return current()->reader->prepare(object, first, end);
}

Result<std::vector<std::uint64_t>> Source::changed_pages(std::size_t object, unsigned generations) {
  auto opened = current();
  std::unique_ptr<ckpt::CheckpointReader> older;
  CheckpointId parent = opened->reader->info().parent;
  for (unsigned i = 0; i < generations && parent.number != 0; ++i) {
    auto reader = opened->store->open_checkpoint(parent);
    if (!reader.ok()) break;  // thinned out
    older = reader.take();
    parent = older->info().parent;
  }
  if (!older) return std::vector<std::uint64_t>{};
  return opened->reader->changed_pages(object, *older);
}

bool may_pass(const ckpt::Error& error, bool was_there) {
  if (error.code == Code::not_found) return was_there;
  return error.code != Code::corrupt && error.code != Code::invalid && error.code != Code::version;
}

Status Source::reopen(const ckpt::Error& why) {
  if (!may_pass(why)) return {};
  {
    std::lock_guard guard(lock_);
    auto now = std::chrono::steady_clock::now();
    if (now - reopened_at_ < reopen_interval) return {};
    reopened_at_ = now;
  }
  CKPT_ASSIGN(auto opened, open_now());
  if (!same_objects(opened->reader->objects(), objects_) ||
      opened->reader->info().wall_clock_ns != info_.wall_clock_ns || opened->reader->info().instance != info_.instance)
    return make_error(Code::refused, path_ + " has come back with another checkpoint " + ckpt::to_string(id_) +
                                         ": bring the store back that the restore began with");
  std::lock_guard guard(lock_);
  opened_ = std::move(opened);
  return {};
}

}  // namespace agent
