// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Memory as a restored QEMU has it: registered with userfaultfd, all pages missing; and what belongs there. Or as
// it was before.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

inline constexpr std::uint64_t page_bytes = 4096;

[[noreturn]] void fail(const std::string& what);  // with errno's text
[[noreturn]] void fail_plain(const std::string& what);

double now_us();

// One RAM block: where it is missing, and its content to compare with.
struct Block {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint8_t* memory = nullptr;
  const std::uint8_t* image = nullptr;
};

class GuestMemory {
public:
  // `missing`: registered with userfaultfd. `filled`: plain memory that holds what belongs there.
  enum class Content { missing, filled };

  // Each file ram+NAME of the directory is a block ('%' in NAME stands for '/').
  explicit GuestMemory(const std::string& directory, Content content = Content::missing);

  int userfault() const { return userfault_; }  // -1: filled
  const std::vector<Block>& blocks() const { return blocks_; }
  const Block& largest() const;
  std::uint64_t data_bytes() const;  // of pages that are not zero

  // Compares every page; ends the process where one differs.
  void check() const;

private:
  int userfault_;
  std::vector<Block> blocks_;
};

bool is_zero(const std::uint8_t* page);
std::vector<std::uint64_t> data_pages(const Block& block);  // numbers of the pages that are not zero

void register_missing(int userfault, std::uint8_t* memory, std::uint64_t bytes);
std::uint8_t* map_memory(std::uint64_t bytes);  // of 4 KiB pages, none there yet
std::uint8_t* map_shared(int file, std::uint64_t bytes);
int memory_file(std::uint64_t bytes, bool huge);  // huge: of pages that were set aside for this
int open_userfault(std::uint64_t features = 0);
// One UFFDIO_COPY of everything, begun again where the kernel stopped on the way.
void copy_into(int userfault, std::uint8_t* to, const std::uint8_t* from, std::uint64_t bytes);

}  // namespace bench
