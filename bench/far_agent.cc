// SPDX-License-Identifier: LGPL-2.1-or-later
//
// restore-agent with its store at the other end of a link: each read takes a round trip, and the link carries one after
// the other. The link is a file that all who share it map, named by CKPT_FAR_LINK; bench/lib/far_link.py makes it.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "forwarding_env.h"
#include "run_agent.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Link {
  std::uint64_t bytes_per_second;
  std::uint64_t round_trip_us;
  std::atomic<std::uint64_t> carried_bytes;
  std::atomic<std::uint64_t> free_ns;  // of the steady clock: what was begun is through
  std::atomic<std::uint64_t> requests;
};

void carry(Link& link, std::size_t bytes) {
  link.carried_bytes += bytes;
  ++link.requests;
  auto now = static_cast<std::uint64_t>(Clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  std::uint64_t before = link.free_ns, after;
  do {
    after = std::max(before, now) + bytes * 1'000'000'000 / link.bytes_per_second;
  } while (!link.free_ns.compare_exchange_weak(before, after));
  Clock::time_point through{std::chrono::nanoseconds(after + link.round_trip_us * 1000)};
  std::this_thread::sleep_until(through);
}

class FarFile : public bench::ForwardingFile {
public:
  FarFile(std::unique_ptr<ckpt::File> below, Link& link) : ForwardingFile(std::move(below)), link_(link) {}

  ckpt::Result<std::size_t> read_at(std::uint64_t offset, std::span<std::uint8_t> out) override {
    auto n = ForwardingFile::read_at(offset, out);
    carry(link_, n.ok() ? *n : 0);
    return n;
  }

private:
  Link& link_;
};

class FarEnv : public bench::ForwardingEnv {
public:
  FarEnv(ckpt::Env& below, Link& link) : ForwardingEnv(below), link_(link) {}

  ckpt::Result<std::unique_ptr<ckpt::File>> open(const std::string& path, Mode mode) override {
    CKPT_ASSIGN(auto file, ForwardingEnv::open(path, mode));
    carry(link_, 0);
    return std::unique_ptr<ckpt::File>(new FarFile(std::move(file), link_));
  }

private:
  Link& link_;
};

}  // namespace

int main(int argc, char** argv) {
  const char* path = std::getenv("CKPT_FAR_LINK");
  int fd = path != nullptr ? open(path, O_RDWR | O_CLOEXEC) : -1;
  void* memory = fd < 0 ? MAP_FAILED : mmap(nullptr, sizeof(Link), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED || static_cast<Link*>(memory)->bytes_per_second == 0) {
    std::fprintf(stderr, "far_agent: CKPT_FAR_LINK names no link\n");
    return 1;
  }
  FarEnv env(ckpt::Env::system(), *static_cast<Link*>(memory));
  return agent::run_agent(argc, argv, env);
}
