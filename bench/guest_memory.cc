// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest_memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

void fail_plain(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

void fail(const std::string& what) { fail_plain(what + ": " + std::strerror(errno)); }

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool is_zero(const std::uint8_t* page) { return page[0] == 0 && std::memcmp(page, page + 1, page_bytes - 1) == 0; }

std::vector<std::uint64_t> data_pages(const Block& block) {
  std::vector<std::uint64_t> pages;
  for (std::uint64_t i = 0; i < block.bytes / page_bytes; ++i)
    if (!is_zero(block.image + i * page_bytes)) pages.push_back(i);
  return pages;
}

int open_userfault(std::uint64_t features) {
  int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0) fail("userfaultfd");
  return fd;
}

std::uint8_t* map_memory(std::uint64_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || madvise(memory, bytes, MADV_NOHUGEPAGE) != 0) fail("memory");
  return static_cast<std::uint8_t*>(memory);
}

std::uint8_t* map_shared(int file, std::uint64_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) fail("shared memory");
  return static_cast<std::uint8_t*>(memory);
}

int memory_file(std::uint64_t bytes, bool huge) {
  int file = memfd_create("bench", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0u));
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) fail("a file of memory");
  return file;
}

void register_missing(int userfault, std::uint8_t* memory, std::uint64_t bytes) {
  uffdio_register request{};
  request.range = {reinterpret_cast<std::uint64_t>(memory), bytes};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(userfault, UFFDIO_REGISTER, &request) != 0) fail("UFFDIO_REGISTER");
}

void copy_into(int userfault, std::uint8_t* to, const std::uint8_t* from, std::uint64_t bytes) {
  for (std::uint64_t done = 0; done < bytes;) {
    uffdio_copy request{};
    request.dst = reinterpret_cast<std::uint64_t>(to + done);
    request.src = reinterpret_cast<std::uint64_t>(from + done);
    request.len = bytes - done;
    if (ioctl(userfault, UFFDIO_COPY, &request) == 0) return;
    if (request.copy > 0) {
      done += static_cast<std::uint64_t>(request.copy);
    } else if (errno == EEXIST) {
      done += page_bytes;
    } else if (errno != EAGAIN) {
      fail("UFFDIO_COPY");
    }
  }
}

namespace {

const std::uint8_t* map_image(const std::string& path, std::uint64_t& bytes) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat what {};
  if (fd < 0 || fstat(fd, &what) != 0) fail(path);
  bytes = static_cast<std::uint64_t>(what.st_size);
  // Populated: what is measured must not wait for the image's own pages.
  void* image = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (image == MAP_FAILED) fail(path);
  close(fd);
  return static_cast<const std::uint8_t*>(image);
}

}  // namespace

GuestMemory::GuestMemory(const std::string& directory, Content content)
    : userfault_(content == Content::missing ? open_userfault() : -1) {
  DIR* list = opendir(directory.c_str());
  if (!list) fail(directory);
  while (dirent* entry = readdir(list)) {
    std::string file = entry->d_name;
    if (file.rfind("ram+", 0) != 0) continue;
    Block block;
    block.name = file.substr(4);
    std::replace(block.name.begin(), block.name.end(), '%', '/');
    block.image = map_image(directory + "/" + file, block.bytes);
    if (block.bytes == 0 || block.bytes % page_bytes != 0) fail_plain(file + " is not of whole pages");
    block.memory = map_memory(block.bytes);
    if (content == Content::missing) register_missing(userfault_, block.memory, block.bytes);
    if (content == Content::filled)
      for (std::uint64_t page : data_pages(block))
        std::memcpy(block.memory + page * page_bytes, block.image + page * page_bytes, page_bytes);
    blocks_.push_back(block);
  }
  closedir(list);
  if (blocks_.empty()) fail_plain(directory + " has no ram+NAME");
}

const Block& GuestMemory::largest() const {
  return *std::max_element(blocks_.begin(), blocks_.end(),
                           [](const Block& a, const Block& b) { return a.bytes < b.bytes; });
}

std::uint64_t GuestMemory::data_bytes() const {
  std::uint64_t pages = 0;
  for (const Block& block : blocks_) pages += data_pages(block).size();
  return pages * page_bytes;
}

void GuestMemory::check() const {
  for (const Block& block : blocks_)
    if (std::memcmp(block.memory, block.image, block.bytes) != 0)
      fail_plain("the memory of " + block.name + " differs");
}

}  // namespace bench
