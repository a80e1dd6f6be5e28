// SPDX-License-Identifier: LGPL-2.1-or-later
//
// store-from-files STORE MACHINE DIR - DIR becomes the machine's next checkpoint: each file ram+NAME, disk+NAME and
// device_state+NAME an object ('%' in NAME stands for '/'). For tests of a restore that need no capture.
#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>

#include "ckpt/env.h"
#include "ckpt/store.h"

namespace {

using ckpt::Object;
using ckpt::ObjectClass;

const std::map<std::string, ObjectClass> classes = {
    {"ram", ObjectClass::ram}, {"disk", ObjectClass::disk}, {"device_state", ObjectClass::device_state}};

struct Content {
  Object object;
  std::vector<std::uint8_t> bytes;
};

std::vector<Content> read_directory(const std::string& path) {
  std::vector<Content> contents;
  DIR* directory = opendir(path.c_str());
  while (dirent* entry = directory ? readdir(directory) : nullptr) {
    std::string file = entry->d_name;
    std::size_t plus = file.find('+');
    auto object_class = classes.find(file.substr(0, plus));
    if (plus == std::string::npos || object_class == classes.end()) continue;
    std::ifstream in(path + "/" + file, std::ios::binary);
    Content content;
    content.bytes.assign(std::istreambuf_iterator<char>(in), {});
    content.object.object_class = object_class->second;
    content.object.name = file.substr(plus + 1);
    std::replace(content.object.name.begin(), content.object.name.end(), '%', '/');
    bool grows = content.object.object_class == ObjectClass::device_state;
    content.object.size_bytes = grows ? 0 : content.bytes.size();
    content.object.page_size_bytes = content.object.object_class == ObjectClass::ram ? 4096 : 0;
    contents.push_back(std::move(content));
  }
  if (directory) closedir(directory);
  return contents;
}

ckpt::Result<std::uint64_t> add(const std::string& path, const std::string& machine, const std::string& from) {
  CKPT_ASSIGN(auto store, ckpt::Store::open(ckpt::Env::system(), path, ckpt::StoreOptions{.create = true}));
  auto known = store->checkpoints(machine);
  if (!known.ok()) {
    CKPT_TRY(store->add_machine(machine, {}));
    known = store->checkpoints(machine);
  }
  ckpt::EpochBase base;
  if (known.ok() && !known->empty()) base.parent = known->back().id;
  auto contents = read_directory(from);
  std::vector<Object> objects;
  for (const Content& content : contents) objects.push_back(content.object);
  CKPT_ASSIGN(auto epoch, store->begin_epoch(machine, base.parent.number + 1, base, objects));
  for (std::size_t i = 0; i < contents.size(); ++i) {
    constexpr std::size_t piece = 1 << 20;
    const auto& bytes = contents[i].bytes;
    for (std::size_t at = 0; at < bytes.size(); at += piece)
      CKPT_TRY(epoch->write(i, at, std::span(bytes).subspan(at, std::min(piece, bytes.size() - at))));
  }
  ckpt::EpochInfo info;
  info.wall_clock_ns = ckpt::Env::system().now_ns();
  CKPT_ASSIGN(auto committed, epoch->commit(info));
  return committed.id.number;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  auto number = add(argv[1], argv[2], argv[3]);
  if (!number.ok()) {
    std::fprintf(stderr, "store-from-files: %s\n", number.error().message().c_str());
    return 1;
  }
  std::printf("%s@%llu\n", argv[2], static_cast<unsigned long long>(*number));
  return 0;
}
