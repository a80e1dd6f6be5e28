// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The points of a machine as files, one after the other, for programs that back files up.
//   points STORE MACHINE FIRST LAST DIRECTORY
// Each object of a point is a file CLASS+NAME in DIRECTORY. When they are those of a point, a line says what it
// changed, in pages of 4 KiB, each page counted once:
//   point N pages P zero Z disk D known K new W zstd BYTES
//   zero   now reads as zeroes
//   disk   of RAM, and a block of the disks is the same, or was
//   known  the same content has been somewhere in RAM or on the disks before
//   zstd   all P pages behind one another, compressed at level 1
// The first point is one change of everything. The next one is written when a line comes on stdin.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/hash.h"
#include "ckpt/env.h"
#include "ckpt/store.h"
#include "must.h"

namespace {

using namespace ckpt;
using bench::must;

constexpr std::uint64_t window_pages = 65536;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "points: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

const char* class_name(ObjectClass object_class) {
  switch (object_class) {
    case ObjectClass::ram:
      return "ram";
    case ObjectClass::disk:
      return "disk";
    case ObjectClass::device_state:
      return "device_state";
    case ObjectClass::config:
      return "config";
  }
  return "other";
}

// Sparse, and read back only to compare.
class ImageFile {
public:
  explicit ImageFile(const std::string& path) : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ < 0) fail(path);
  }
  ~ImageFile() { close(fd_); }
  ImageFile(const ImageFile&) = delete;
  ImageFile& operator=(const ImageFile&) = delete;

  void resize(std::uint64_t bytes) {
    struct stat now {};
    if (fstat(fd_, &now) != 0) fail("an image");
    // A file that is not touched is one that those who back it up need not read.
    if (static_cast<std::uint64_t>(now.st_size) == bytes) return;
    if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) fail("an image");
  }

  bool differs(std::uint64_t offset, std::span<const std::uint8_t> page) const {
    std::array<std::uint8_t, page_size_bytes> now{};
    ssize_t n = pread(fd_, now.data(), page.size(), static_cast<off_t>(offset));
    if (n < 0) fail("an image");
    return std::memcmp(now.data(), page.data(), page.size()) != 0;
  }

  void write(std::uint64_t offset, std::span<const std::uint8_t> page) const {
    ssize_t n = pwrite(fd_, page.data(), page.size(), static_cast<off_t>(offset));
    if (n != static_cast<ssize_t>(page.size())) fail("an image");
  }

private:
  int fd_;
};

class Figures {
public:
  // A page that changed, in the order of the point; `page` may be short at the end of an object.
  void add(ObjectClass object_class, std::span<const std::uint8_t> page) {
    ++pages_;
    bytes_.insert(bytes_.end(), page.begin(), page.end());
    std::uint64_t content = checksum(page);
    if (is_zero(page)) {
      ++zero_;
    } else if (object_class == ObjectClass::ram && on_disk_.contains(content)) {
      ++disk_;
    } else if (!seen_.insert(content).second) {
      ++known_;
    } else {
      ++new_;
    }
    if (object_class == ObjectClass::disk) on_disk_.insert(content);
  }

  void print(std::uint64_t number) {
    std::vector<std::uint8_t> out(ZSTD_compressBound(bytes_.size()));
    std::size_t zstd = ZSTD_compress(out.data(), out.size(), bytes_.data(), bytes_.size(), 1);
    if (ZSTD_isError(zstd)) fail("zstd");
    auto n = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf("point %llu pages %llu zero %llu disk %llu known %llu new %llu zstd %llu\n", n(number), n(pages_),
                n(zero_), n(disk_), n(known_), n(new_), n(zstd));
    std::fflush(stdout);
    pages_ = zero_ = disk_ = known_ = new_ = 0;
    bytes_.clear();
  }

private:
  std::uint64_t pages_ = 0, zero_ = 0, disk_ = 0, known_ = 0, new_ = 0;
  std::vector<std::uint8_t> bytes_;
  std::unordered_set<std::uint64_t> seen_, on_disk_;
};

class Machine {
public:
  explicit Machine(std::string directory) : directory_(std::move(directory)) {}

  void bring(CheckpointReader& reader, CheckpointReader* older) {
    const auto& objects = reader.objects();
    std::vector<std::size_t> order(objects.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    // Disks first: what a page of RAM is compared with.
    std::stable_sort(order.begin(), order.end(), [&](std::size_t one, std::size_t other) {
      return is_disk(objects[one]) > is_disk(objects[other]);
    });
    for (std::size_t i : order) bring(reader, i, older);
  }

  Figures figures;

private:
  static bool is_disk(const Object& object) { return object.object_class == ObjectClass::disk; }

  void bring(CheckpointReader& reader, std::size_t index, CheckpointReader* older) {
    const Object& object = reader.objects()[index];
    std::string name = std::string(class_name(object.object_class)) + "+" + object.name;
    std::replace(name.begin(), name.end(), '/', '%');
    auto& file = files_[name];
    if (!file) file = std::make_unique<ImageFile>(directory_ + "/" + name);
    file->resize(object.size_bytes);
    if (older != nullptr) {
      for (std::uint64_t page : must(reader.changed_pages(index, *older))) take(reader, index, page, *file);
      return;
    }
    std::uint64_t end = (object.size_bytes + page_size_bytes - 1) / page_size_bytes;
    for (std::uint64_t first = 0; first < end; first += window_pages)
      for (const PagePlace& place : must(reader.places(index, first, std::min(first + window_pages, end))))
        take(reader, index, place.page, *file);
  }

  void take(CheckpointReader& reader, std::size_t index, std::uint64_t number, const ImageFile& file) {
    const Object& object = reader.objects()[index];
    std::uint64_t offset = number * page_size_bytes;
    std::array<std::uint8_t, page_size_bytes> buffer;
    auto page = std::span(buffer).first(std::min<std::uint64_t>(page_size_bytes, object.size_bytes - offset));
    must(reader.read(index, offset, page));
    // Written again with what it held before: no change, and nothing that a copy of the files would show.
    if (!file.differs(offset, page)) return;
    figures.add(object.object_class, page);
    file.write(offset, page);
  }

  const std::string directory_;
  std::map<std::string, std::unique_ptr<ImageFile>> files_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: points STORE MACHINE FIRST LAST DIRECTORY\n");
    return 2;
  }
  std::uint64_t first = std::strtoull(argv[3], nullptr, 10), last = std::strtoull(argv[4], nullptr, 10);
  auto store = must(Store::open(Env::system(), argv[1], {.read_only = true}));
  Machine machine(argv[5]);
  std::unique_ptr<CheckpointReader> older;
  for (const CheckpointInfo& info : must(store->checkpoints(argv[2]))) {
    if (info.id.number < first || info.id.number > last) continue;
    auto reader = must(store->open_checkpoint(info.id));
    machine.bring(*reader, older.get());
    machine.figures.print(info.id.number);
    older = std::move(reader);
    for (int c; (c = std::getchar()) != '\n';)
      if (c == EOF) return 0;
  }
  return 0;
}
