// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Machines without QEMU, for tests and load: plays the client of the checkpoint stream on unix sockets, or straight
// into a store, or writes what a client would send to a file. Prints for each epoch what the checkpoint must hold;
// stream_check prints what it does.
#include <fcntl.h>
#include <getopt.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "ckpt/env.h"
#include "local_session.h"
#include "socket_session.h"

namespace ckpt::tools {
namespace {

constexpr char usage[] =
    "stream_gen [OPTIONS] SOCKET...           plays one machine on each socket\n"
    "stream_gen [OPTIONS] --store DIR NAME... plays into a store (made if missing), without ckptd\n"
    "stream_gen [OPTIONS] --file PATH         writes a client's bytes, every epoch closed at once\n"
    "  --ram MIB, --disk MIB (16)       sizes\n"
    "  --dirty PAGES (100)              pages written an epoch\n"
    "  --disk-writes COUNT (20)         writes of 512 bytes an epoch\n"
    "  --compressible PERCENT (50)      of each page\n"
    "  --epochs COUNT (10)              until so many are durable; 0: for ever\n"
    "  --seed NUMBER (1)                content; the Nth machine has seed + N\n"
    "  --uuid UUID                      of the machine (from the seed)\n"
    "  --base MACHINE@NUMBER            restored from there\n"
    "  --reconnects COUNT (0)           after lost connections\n"
    "  --misbehave HOW                  truncate, replay, foreign-epoch, oversize, garbage, version\n"
    "  --after COUNT (1)                durable epochs before it misbehaves\n"
    "Exit: 0 all durable, 3 refused, 4 connection lost, 2 usage, 1 anything else.\n";

const std::map<std::string, Misbehaviour> misbehaviours = {
    {"truncate", Misbehaviour::truncate},
    {"replay", Misbehaviour::replay},
    {"foreign-epoch", Misbehaviour::foreign_epoch},
    {"oversize", Misbehaviour::oversize},
    {"garbage", Misbehaviour::garbage},
    {"version", Misbehaviour::version},
};

struct Arguments {
  MachineOptions machine;
  ClientOptions client;
  SocketOptions socket;
  bool has_uuid = false;
  std::string file;
  std::string store;
  std::vector<std::string> targets;
};

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "stream_gen: %s\n", why.c_str());
  std::exit(1);
}

[[noreturn]] void wrong_usage() {
  std::fputs(usage, stderr);
  std::exit(2);
}

std::uint64_t number(const char* text) {
  char* end = nullptr;
  std::uint64_t value = std::strtoull(text, &end, 10);
  if (*text == 0 || *end != 0) wrong_usage();
  return value;
}

std::array<std::uint8_t, 16> parse_uuid(const std::string& text) {
  std::array<std::uint8_t, 16> uuid{};
  std::size_t digits = 0;
  for (char c : text) {
    if (c == '-') continue;
    if (!std::isxdigit(static_cast<unsigned char>(c)) || digits == 32) wrong_usage();
    auto digit = static_cast<std::uint8_t>(std::stoi(std::string(1, c), nullptr, 16));
    uuid[digits / 2] = static_cast<std::uint8_t>(uuid[digits / 2] << 4 | digit);
    ++digits;
  }
  if (digits != 32) wrong_usage();
  return uuid;
}

void apply(Arguments& arguments, const std::string& name, const char* value) {
  if (name == "ram") arguments.machine.ram_bytes = number(value) << 20;
  if (name == "disk") arguments.machine.disk_bytes = number(value) << 20;
  if (name == "dirty") arguments.client.dirty_pages = number(value);
  if (name == "disk-writes") arguments.client.disk_writes = number(value);
  if (name == "compressible") arguments.machine.compressible_percent = static_cast<unsigned>(number(value) % 101);
  if (name == "epochs") arguments.socket.epochs = number(value);
  if (name == "seed") arguments.machine.seed = number(value);
  if (name == "base") arguments.client.base = value;
  if (name == "reconnects") arguments.socket.reconnects = number(value);
  if (name == "after") arguments.socket.misbehave_after = number(value);
  if (name == "file") arguments.file = value;
  if (name == "store") arguments.store = value;
  if (name == "uuid") {
    arguments.client.uuid = parse_uuid(value);
    arguments.has_uuid = true;
  }
  if (name == "misbehave") {
    auto found = misbehaviours.find(value);
    if (found == misbehaviours.end()) wrong_usage();
    arguments.socket.misbehaviour = found->second;
  }
}

Arguments parse(int argc, char** argv) {
  std::vector<option> options;
  for (const char* name : {"ram", "disk", "dirty", "disk-writes", "compressible", "epochs", "seed", "base",
                           "reconnects", "after", "file", "store", "uuid", "misbehave"})
    options.push_back({name, required_argument, nullptr, 0});
  options.push_back({"help", no_argument, nullptr, 'h'});
  options.push_back({nullptr, 0, nullptr, 0});
  Arguments arguments;
  int index = 0;
  for (int c = 0; (c = getopt_long(argc, argv, "", options.data(), &index)) != -1;) {
    if (c == 'h') {
      std::fputs(usage, stdout);
      std::exit(0);
    }
    if (c != 0) wrong_usage();
    apply(arguments, options[static_cast<std::size_t>(index)].name, optarg);
  }
  arguments.targets.assign(argv + optind, argv + argc);
  if (arguments.targets.empty() == arguments.file.empty()) wrong_usage();
  return arguments;
}

// A machine of its own for each target.
struct Player {
  Player(const Arguments& arguments, std::size_t index, std::string player_name)
      : name(std::move(player_name)),
        model(options_for(arguments.machine, index)),
        client(model, client_options(arguments, index), events()) {}

  static MachineOptions options_for(MachineOptions options, std::size_t index) {
    options.seed += index;
    return options;
  }
  static ClientOptions client_options(const Arguments& arguments, std::size_t index) {
    ClientOptions options = arguments.client;
    options.real_clock = arguments.store.empty() && arguments.file.empty();
    if (!Env::system().random(options.instance).ok()) fail("no random bytes");
    if (!arguments.has_uuid)
      for (std::size_t i = 0; i < 8; ++i)
        options.uuid[i] = static_cast<std::uint8_t>((arguments.machine.seed + index) >> (8 * i));
    return options;
  }
  void say(const std::string& text) const {
    static std::mutex lock;
    std::lock_guard guard(lock);
    std::printf("%s %s\n", name.c_str(), text.c_str());
    std::fflush(stdout);
  }
  StreamClient::Events events() {
    return {[this](const wire::Welcome& welcome) {
              say(std::string("welcome mode=") + (welcome.mode == wire::WelcomeMode::full ? "full" : "continue") +
                  " next=" + std::to_string(welcome.next_epoch) + " last=" + std::to_string(welcome.last_durable));
            },
            [this](std::uint64_t epoch, const MachineDigest& digest) {
              say("closed " + std::to_string(epoch) + " " + digest.text());
            },
            [this](std::uint64_t epoch) {
              ++durable;
              say("durable " + std::to_string(epoch));
            }};
  }

  std::string name;
  MachineModel model;
  std::uint64_t durable = 0;
  StreamClient client;
};

int play_on_sockets(const Arguments& arguments) {
  std::vector<SocketEnd> ends(arguments.targets.size(), SocketEnd::lost);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < arguments.targets.size(); ++i)
    threads.emplace_back([&arguments, &ends, i] {
      Player player(arguments, i, arguments.targets[i]);
      SocketOptions options = arguments.socket;
      options.path = arguments.targets[i];
      std::string why;
      ends[i] = run_socket_session(player.client, options, player.durable, why);
      if (ends[i] == SocketEnd::refused) player.say("refused: " + why);
      if (ends[i] == SocketEnd::lost) player.say("lost: " + why);
    });
  for (std::thread& thread : threads) thread.join();
  int worst = 0;
  for (SocketEnd end : ends) worst = std::max(worst, end == SocketEnd::done ? 0 : end == SocketEnd::refused ? 3 : 4);
  return worst;
}

int play_into_store(const Arguments& arguments) {
  StoreOptions options;
  options.create = true;
  auto store = Store::open(Env::system(), arguments.store, options);
  if (!store.ok()) fail(store.error().message());
  for (std::size_t i = 0; i < arguments.targets.size(); ++i) {
    const std::string& name = arguments.targets[i];
    Player player(arguments, i, name);
    Status added = (*store)->add_machine(name, {});
    if (!added.ok() && added.error().code != Code::exists) fail(added.error().message());
    auto receiver = StreamReceiver::create(**store, {name, 1000, "{}"}, {});
    player.client.connect();
    Status status = LocalSession(player.client, *receiver).take(arguments.socket.epochs);
    if (!status.ok()) fail(name + ": " + status.error().message());
  }
  return 0;
}

// Answers as a server would that finds everything durable at once.
int write_file(const Arguments& arguments) {
  int fd = ::open(arguments.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) fail(arguments.file + ": " + std::strerror(errno));
  Player player(arguments, 0, arguments.file);
  Bytes answers;
  wire::StreamWriter server(answers);
  auto carry = [&] {
    Status status = player.client.feed(std::exchange(answers, {}));
    if (!status.ok()) fail(status.error().message());
    for (player.client.pump(1 << 20); !player.client.output().empty(); player.client.pump(1 << 20)) {
      const Bytes& output = player.client.output();
      for (std::size_t at = 0; at < output.size();) {
        ssize_t count = ::write(fd, output.data() + at, output.size() - at);
        if (count < 0) fail(arguments.file + ": " + std::strerror(errno));
        at += static_cast<std::size_t>(count);
      }
      player.client.output().clear();
    }
  };
  player.client.connect();
  server.welcome({wire::stream_version, wire::WelcomeMode::full, 1, 0, 1000});
  carry();
  for (std::uint64_t epoch = 1; epoch <= arguments.socket.epochs; ++epoch) {
    server.take(epoch);
    carry();
    server.durable(epoch);
    carry();
  }
  if (::close(fd) != 0) fail(arguments.file + ": " + std::strerror(errno));
  return 0;
}

int run(int argc, char** argv) {
  Arguments arguments = parse(argc, argv);
  if (!arguments.file.empty()) return write_file(arguments);
  return arguments.store.empty() ? play_on_sockets(arguments) : play_into_store(arguments);
}

}  // namespace
}  // namespace ckpt::tools

int main(int argc, char** argv) { return ckpt::tools::run(argc, argv); }
