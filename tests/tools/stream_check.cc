// SPDX-License-Identifier: LGPL-2.1-or-later
//
// stream_check STORE MACHINE [NUMBER...]: prints what checkpoints hold, in the words of stream_gen's "closed" lines.
#include <cstdio>
#include <cstdlib>

#include "ckpt/env.h"
#include "machine_model.h"

namespace ckpt::tools {
namespace {

Status check(const std::string& path, const std::string& machine, std::vector<std::uint64_t> numbers) {
  StoreOptions options;
  options.read_only = true;
  CKPT_ASSIGN(auto store, Store::open(Env::system(), path, options));
  if (numbers.empty()) {
    CKPT_ASSIGN(auto kept, store->checkpoints(machine));
    for (const CheckpointInfo& info : kept) numbers.push_back(info.id.number);
  }
  for (std::uint64_t number : numbers) {
    CKPT_ASSIGN(auto reader, store->open_checkpoint({machine, number}));
    CKPT_ASSIGN(MachineDigest digest, digest_of(*reader));
    std::printf("closed %llu %s\n", static_cast<unsigned long long>(number), digest.text().c_str());
  }
  return {};
}

}  // namespace
}  // namespace ckpt::tools

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fputs("stream_check STORE MACHINE [NUMBER...]\n", stderr);
    return 2;
  }
  std::vector<std::uint64_t> numbers;
  for (int i = 3; i < argc; ++i) numbers.push_back(std::strtoull(argv[i], nullptr, 10));
  ckpt::Status status = ckpt::tools::check(argv[1], argv[2], numbers);
  if (!status.ok()) std::fprintf(stderr, "stream_check: %s\n", status.error().message().c_str());
  return status.ok() ? 0 : 1;
}
