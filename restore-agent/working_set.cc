// SPDX-License-Identifier: LGPL-2.1-or-later
#include "working_set.h"

#include <xxhash.h>

#include <map>

#include "os/file.h"

namespace agent {

using ckpt::ByteReader;
using ckpt::Bytes;
using ckpt::ByteView;
using ckpt::ByteWriter;
using ckpt::Code;
using ckpt::make_error;
using ckpt::Result;
using ckpt::Status;

namespace {

constexpr char file_magic[] = "CKPTWSET";
constexpr std::uint32_t format_version = 1;
constexpr std::size_t blocks_limit = 1024;
constexpr std::size_t name_limit = 255;
constexpr std::size_t file_limit = 64 + blocks_limit * (2 + name_limit) + working_set_pages_limit * 12;

}  // namespace

Bytes encode_working_set(const std::vector<WorkingSetPage>& pages) {
  std::map<std::string, std::uint32_t> numbers;
  std::vector<std::string> names;
  Bytes body;
  ByteWriter entries(body);
  std::uint32_t count = 0;
  for (const WorkingSetPage& page : pages) {
    auto [it, added] = numbers.try_emplace(page.block, names.size());
    if (added) names.push_back(page.block);
    entries.u32(it->second);
    entries.u64(page.page);
    ++count;
  }
  Bytes out;
  ByteWriter writer(out);
  writer.bytes(ckpt::as_bytes({file_magic, 8}));
  writer.u32(format_version);
  writer.u32(static_cast<std::uint32_t>(names.size()));
  writer.u32(count);
  writer.u32(0);
  for (const std::string& name : names) writer.string(name);
  writer.bytes(body);
  writer.u64(XXH3_64bits(out.data(), out.size()));
  return out;
}

Result<std::vector<WorkingSetPage>> decode_working_set(ByteView bytes) {
  ByteReader in(bytes);
  ByteView head = in.bytes(8);
  if (!in.ok() || std::memcmp(head.data(), file_magic, 8) != 0)
    return make_error(Code::corrupt, "this is no working set");
  std::uint32_t version = in.u32();
  if (in.ok() && version != format_version)
    return make_error(Code::version, "a working set of version " + std::to_string(version));
  std::uint32_t names_count = in.u32();
  std::uint32_t count = in.u32();
  std::uint32_t reserved = in.u32();
  if (!in.ok() || reserved != 0 || names_count > blocks_limit || count > working_set_pages_limit)
    return make_error(Code::corrupt, "a malformed working set");
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < names_count && in.ok(); ++i) names.push_back(in.string(name_limit));
  std::vector<WorkingSetPage> pages;
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    std::uint32_t name = in.u32();
    std::uint64_t page = in.u64();
    if (!in.ok() || name >= names.size()) return make_error(Code::corrupt, "a malformed working set");
    pages.push_back({names[name], page});
  }
  std::size_t checked = in.offset();
  std::uint64_t sum = in.u64();
  if (!in.finished() || sum != XXH3_64bits(bytes.data(), checked))
    return make_error(Code::corrupt, "a damaged working set");
  return pages;
}

Result<std::vector<WorkingSetPage>> WorkingSet::load() {
  if (path_.empty()) return std::vector<WorkingSetPage>{};
  CKPT_ASSIGN(std::string bytes, os::read_file(path_, file_limit));
  CKPT_ASSIGN(auto pages, decode_working_set(ckpt::as_bytes(bytes)));
  std::lock_guard guard(lock_);
  before_ = pages;
  return pages;
}

void WorkingSet::record(const std::string& block, std::uint64_t page) {
  std::lock_guard guard(lock_);
  if (recorded_.size() >= working_set_pages_limit) return;
  WorkingSetPage entry{block, page};
  if (seen_.insert(entry).second) recorded_.push_back(std::move(entry));
}

Status WorkingSet::save() {
  std::vector<WorkingSetPage> all;
  {
    std::lock_guard guard(lock_);
    if (path_.empty() || recorded_.size() == saved_) return {};
    saved_ = recorded_.size();
    all = recorded_;
    for (const WorkingSetPage& page : before_)
      if (all.size() < working_set_pages_limit && !seen_.contains(page)) all.push_back(page);
  }
  return os::replace_file(path_, ckpt::as_text(encode_working_set(all)));
}

}  // namespace agent
