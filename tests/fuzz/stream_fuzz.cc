// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whatever a client sends, the receiver answers within its rules, and what it commits is the same in the real store and
// in the plain model of one.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "ckpt/env.h"
#include "ckpt/stream.h"
#include "format/stream_codec.h"
#include "memory_store.h"
#include "stream/message_reader.h"

namespace ckpt {
namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

// A new one now and then, so that no input meets much of what earlier ones left.
class RealStore {
public:
  RealStore() : path_(folder() / ("ckpt-stream-fuzz-" + std::to_string(getpid()))) { renew(); }
  ~RealStore() {
    store_.reset();
    std::filesystem::remove_all(path_);
  }
  Store& next() {
    if (++used_ % 1000 == 0) renew();
    return *store_;
  }

private:
  // In memory where there is such a place: what is tried here is not the disk.
  static std::filesystem::path folder() {
    std::error_code ignored;
    return std::filesystem::is_directory("/dev/shm", ignored) ? "/dev/shm" : std::filesystem::temp_directory_path();
  }
  void renew() {
    store_.reset();
    std::filesystem::remove_all(path_);
    StoreOptions options;
    options.create = true;
    auto store = Store::open(Env::system(), path_, options);
    require(store.ok(), "a new store opens");
    store_ = store.take();
  }

  std::filesystem::path path_;
  std::unique_ptr<Store> store_;
  std::uint64_t used_ = 0;
};

struct Outcome {
  Status status;
  Bytes answers;
};

// Messages as their heads say, however wrong; with `repair`, magic and sequence are put right so that what is behind
// them is reached.
std::vector<Bytes> messages_of(ByteView input, bool repair) {
  std::vector<Bytes> messages;
  while (!input.empty()) {
    std::size_t length = input.size();
    if (length >= wire::header_bytes) {
      std::size_t announced = load_le<std::uint32_t>(input.data() + 16);
      length = wire::header_bytes + std::min(announced, length - wire::header_bytes);
    }
    Bytes message(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(length));
    input = input.subspan(length);
    if (repair && length >= wire::header_bytes) {
      store_le(message.data(), wire::stream_magic);
      store_le(message.data() + 16, static_cast<std::uint32_t>(length - wire::header_bytes));
      store_le(message.data() + 20, static_cast<std::uint32_t>(messages.size()));
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

Outcome play(Store& store, const std::string& machine, const std::vector<Bytes>& messages, std::size_t piece) {
  StreamReceiver::Events events;
  std::uint64_t last = 0;
  events.committed = [&](const CheckpointInfo& info, const EpochFigures&) {
    require(info.id.number > last, "numbers rise");
    last = info.id.number;
  };
  auto receiver = StreamReceiver::create(store, {machine, 1000, "{}"}, events);
  Outcome outcome;
  for (const Bytes& message : messages) {
    for (std::size_t at = 0; at < message.size() && outcome.status.ok(); at += piece) {
      outcome.status = receiver->feed(ByteView(message).subspan(at, std::min(piece, message.size() - at)));
      require(receiver->missing_bytes() <= wire::header_bytes + wire::data_head_bytes + wire::max_data_bytes,
              "a message is bounded");
    }
    if (!outcome.status.ok()) break;
    receiver->take();
  }
  if (!outcome.status.ok()) {
    Code code = outcome.status.error().code;
    require(code == Code::protocol || code == Code::version || code == Code::limit || code == Code::not_found,
            "the client is to blame");
    require(receiver->open_epoch() == 0 && !receiver->take(), "nothing uncommitted is kept");
    require(!receiver->feed({}).ok(), "an error is for good");
  }
  outcome.answers = receiver->output();
  return outcome;
}

void check_answers(const Outcome& outcome) {
  MessageReader reader;
  wire::Type last = wire::Type::welcome;
  Status status = reader.feed(outcome.answers, [&](const wire::Header& header, ByteView) -> Status {
    last = header.type;
    return {};
  });
  require(status.ok() && reader.missing_bytes() == 0, "answers are messages");
  require(outcome.status.ok() || last == wire::Type::refuse, "a client that is cut off is told why");
}

using PageMap = std::map<std::uint64_t, Bytes>;

PageMap pages_of_object(CheckpointReader& reader, std::size_t index) {
  PageMap pages;
  std::uint64_t size = reader.objects()[index].size_bytes;
  std::uint64_t at = 0;
  while (at < size) {
    auto extents = reader.extents(index, at, size - at, 64);
    require(extents.ok() && !extents->empty(), "extents cover the object");
    for (const Extent& extent : *extents) {
      for (std::uint64_t page = extent.offset / page_size_bytes;
           !extent.zero && page * page_size_bytes < extent.offset + extent.length; ++page) {
        Bytes content(page_size_bytes);
        auto present = reader.read_page(index, page, std::span<std::uint8_t, page_size_bytes>(content));
        require(present.ok(), "a page can be read");
        if (*present) pages[page] = std::move(content);
      }
      at = extent.offset + extent.length;
    }
  }
  return pages;
}

void compare(Store& real, Store& model, const std::string& machine) {
  auto kept = model.checkpoints(machine);
  auto really_kept = real.checkpoints(machine);
  require(kept.ok() && really_kept.ok() && kept->size() == really_kept->size(), "both keep the same checkpoints");
  for (const CheckpointInfo& info : *kept) {
    auto a = real.open_checkpoint(info.id);
    auto b = model.open_checkpoint(info.id);
    require(a.ok() && b.ok(), "both can be opened");
    const auto& objects = (*b)->objects();
    require((*a)->objects().size() == objects.size(), "both have the same objects");
    for (std::size_t i = 0; i < objects.size(); ++i) {
      const Object& object = (*a)->objects()[i];
      require(object.name == objects[i].name && object.size_bytes == objects[i].size_bytes, "objects are the same");
      require(pages_of_object(**a, i) == pages_of_object(**b, i), "contents are the same");
    }
  }
}

void decode_all(ByteView input) {
  if (input.size() >= wire::header_bytes) (void)wire::decode_header(input.first(wire::header_bytes));
  (void)wire::decode_hello(input);
  (void)wire::decode_welcome(input);
  (void)wire::decode_epoch_begin(input);
  (void)wire::decode_state(input);
  (void)wire::decode_refuse(input);
}

}  // namespace
}  // namespace ckpt

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ckpt;
  static RealStore real;
  static std::uint64_t count = 0;
  ByteView input(data, size);
  std::string machine = "f" + std::to_string(++count);

  decode_all(input);

  auto raw = tools::make_memory_store();
  (void)raw->add_machine("whole", {});
  (void)raw->add_machine("bytes", {});
  std::vector<Bytes> messages = messages_of(input, false);
  Outcome whole = play(*raw, "whole", messages, input.size() + 1);
  Outcome bytes = play(*raw, "bytes", messages, 1 + input.size() / 512);
  check_answers(whole);
  require(whole.answers == bytes.answers || !whole.status.ok(), "pieces make no difference");
  require(whole.status.ok() == bytes.status.ok(), "pieces make no difference to the end");

  messages = messages_of(input, true);
  auto model = tools::make_memory_store();
  Store& store = real.next();
  (void)model->add_machine(machine, {});
  require(store.add_machine(machine, {}).ok(), "a machine is added");
  Outcome in_model = play(*model, machine, messages, input.size() + 1);
  Outcome in_store = play(store, machine, messages, input.size() + 1);
  check_answers(in_store);
  require(in_model.answers == in_store.answers, "the store takes what the model takes");
  compare(store, *model, machine);
  require(store.forget_machine(machine).ok(), "a machine is forgotten");
  return 0;
}
