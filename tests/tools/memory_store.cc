// SPDX-License-Identifier: LGPL-2.1-or-later
#include "memory_store.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace ckpt::tools {
namespace {

using Page = std::array<std::uint8_t, page_size_bytes>;
using Pages = std::map<std::uint64_t, Page>;  // a page that is not there reads as zeroes

struct Content {
  std::vector<Object> objects;
  std::vector<Pages> pages;

  const Pages* find(const Object& object) const {
    for (std::size_t i = 0; i < objects.size(); ++i)
      if (objects[i].object_class == object.object_class && objects[i].name == object.name) return &pages[i];
    return nullptr;
  }
};

struct Kept {
  CheckpointInfo info;
  EpochInfo epoch;
  Content content;
};

struct Machine {
  MachineInfo info;
  std::map<std::uint64_t, std::shared_ptr<const Kept>> kept;
};

bool grows(const Object& object) {
  return object.object_class == ObjectClass::device_state || object.object_class == ObjectClass::config;
}

void put(Pages& pages, std::uint64_t offset, std::span<const std::uint8_t> data) {
  while (!data.empty()) {
    std::uint64_t in_page = offset % page_size_bytes;
    std::size_t count = std::min<std::size_t>(data.size(), page_size_bytes - in_page);
    Page& page = pages.try_emplace(offset / page_size_bytes, Page{}).first->second;
    std::memcpy(page.data() + in_page, data.data(), count);
    offset += count;
    data = data.subspan(count);
  }
}

void clear_within(Pages& pages, std::uint64_t page, std::uint64_t begin, std::uint64_t end) {
  auto found = pages.find(page);
  if (found != pages.end()) std::fill(found->second.begin() + begin, found->second.begin() + end, std::uint8_t{0});
}

void clear(Pages& pages, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t first = begin / page_size_bytes, last = end / page_size_bytes;
  if (first == last) return clear_within(pages, first, begin % page_size_bytes, end % page_size_bytes);
  clear_within(pages, first, begin % page_size_bytes, page_size_bytes);
  clear_within(pages, last, 0, end % page_size_bytes);
  pages.erase(pages.lower_bound(first + 1), pages.lower_bound(last));
}

class MemoryWriter final : public EpochWriter {
public:
  MemoryWriter(Machine& machine, std::uint64_t number, CheckpointId parent, std::shared_ptr<const Kept> parent_content,
               MemoryWriter* closed, std::vector<Object> objects)
      : machine_(machine),
        number_(number),
        parent_(std::move(parent)),
        parent_content_(std::move(parent_content)),
        closed_(closed) {
    content_.objects = std::move(objects);
  }

  std::uint64_t number() const override { return number_; }

  Status write(std::size_t object, std::uint64_t offset, std::span<const std::uint8_t> data) override {
    steps_.push_back({object, offset, data.size(), {data.begin(), data.end()}});
    data_bytes_ += data.size();
    return {};
  }
  Status zero(std::size_t object, std::uint64_t offset, std::uint64_t length) override {
    steps_.push_back({object, offset, length, {}});
    return {};
  }

  Result<CheckpointInfo> commit(const EpochInfo& epoch) override {
    if (closed_ && !closed_->kept_) return make_error(Code::invalid, "the epoch before is not committed");
    if (number_ <= machine_.info.last_number) return make_error(Code::invalid, "the number has been used");
    inherit();
    for (const Step& step : steps_) apply(step);
    auto kept = std::make_shared<Kept>();
    kept->info.id = {machine_.info.name, number_};
    kept->info.parent = closed_ ? closed_->kept_->info.id : parent_;
    kept->info.wall_clock_ns = epoch.wall_clock_ns;
    kept->info.instance = epoch.instance;
    kept->info.data_bytes = data_bytes_;
    kept->epoch = epoch;
    kept->content = std::move(content_);
    machine_.kept[number_] = kept;
    machine_.info.last_number = number_;
    kept_ = kept;
    return kept->info;
  }

private:
  struct Step {
    std::size_t object;
    std::uint64_t offset, length;
    std::vector<std::uint8_t> data;  // empty: zeroes
  };

  void inherit() {
    const Kept* before = closed_ ? closed_->kept_.get() : parent_content_.get();
    for (const Object& object : content_.objects) {
      const Pages* pages = before != nullptr && !grows(object) ? before->content.find(object) : nullptr;
      content_.pages.push_back(pages ? *pages : Pages{});
      if (!grows(object)) clear(content_.pages.back(), object.size_bytes, ~0ull);
    }
  }

  void apply(const Step& step) {
    Object& object = content_.objects[step.object];
    if (grows(object)) object.size_bytes = std::max(object.size_bytes, step.offset + step.length);
    if (step.data.empty())
      clear(content_.pages[step.object], step.offset, step.offset + step.length);
    else
      put(content_.pages[step.object], step.offset, step.data);
  }

  Machine& machine_;
  std::uint64_t number_;
  CheckpointId parent_;
  std::shared_ptr<const Kept> parent_content_;
  MemoryWriter* closed_;
  Content content_;
  std::vector<Step> steps_;
  std::uint64_t data_bytes_ = 0;
  std::shared_ptr<const Kept> kept_;
};

class MemoryReader final : public CheckpointReader {
public:
  explicit MemoryReader(std::shared_ptr<const Kept> kept) : kept_(std::move(kept)) {}

  const CheckpointInfo& info() const override { return kept_->info; }
  const EpochInfo& epoch() const override { return kept_->epoch; }
  const std::vector<Object>& objects() const override { return kept_->content.objects; }

  Status read(std::size_t object, std::uint64_t offset, std::span<std::uint8_t> out) override {
    for (std::size_t done = 0; done < out.size();) {
      std::uint64_t at = offset + done, in_page = at % page_size_bytes;
      std::size_t count = std::min<std::size_t>(out.size() - done, page_size_bytes - in_page);
      Page page{};
      CKPT_ASSIGN([[maybe_unused]] bool present, read_page(object, at / page_size_bytes, page));
      std::memcpy(out.data() + done, page.data() + in_page, count);
      done += count;
    }
    return {};
  }
  Result<bool> read_page(std::size_t object, std::uint64_t page,
                         std::span<std::uint8_t, page_size_bytes> out) override {
    const Pages& pages = kept_->content.pages[object];
    auto found = pages.find(page);
    if (found == pages.end() || found->second == Page{}) return false;
    std::copy(found->second.begin(), found->second.end(), out.begin());
    return true;
  }
  Result<std::vector<PagePlace>> places(std::size_t, std::uint64_t, std::uint64_t) override { return refused(); }
  Status prepare(std::size_t, std::uint64_t, std::uint64_t) override { return {}; }
  std::unique_ptr<FrameReader> frames(std::size_t) override { return nullptr; }
  Result<std::vector<Extent>> extents(std::size_t object, std::uint64_t offset, std::uint64_t length,
                                      std::size_t limit) override {
    std::vector<Extent> found;
    auto add = [&](std::uint64_t begin, std::uint64_t end, bool zero) {
      if (begin == end || found.size() == limit) return;
      if (!found.empty() && found.back().zero == zero)
        found.back().length += end - begin;
      else
        found.push_back({begin, end - begin, zero});
    };
    const Pages& pages = kept_->content.pages[object];
    std::uint64_t at = offset, end = offset + length;
    for (auto next = pages.lower_bound(offset / page_size_bytes); next != pages.end() && at < end; ++next) {
      std::uint64_t page_begin = std::max(next->first * page_size_bytes, at);
      if (page_begin >= end) break;
      add(at, page_begin, true);
      at = std::min(next->first * page_size_bytes + page_size_bytes, end);
      add(page_begin, at, next->second == Page{});
    }
    add(at, end, true);
    return found;
  }
  Result<std::vector<std::uint64_t>> changed_pages(std::size_t, CheckpointReader&) override { return refused(); }

private:
  static Error refused() { return make_error(Code::refused, "not in the model"); }
  std::shared_ptr<const Kept> kept_;
};

class MemoryStore final : public Store {
public:
  Status add_machine(const std::string& name, const std::array<std::uint8_t, 16>& uuid) override {
    if (machines_.contains(name)) return make_error(Code::exists, name);
    machines_[name].info.name = name;
    machines_[name].info.uuid = uuid;
    return {};
  }
  std::vector<MachineInfo> machines() const override {
    std::vector<MachineInfo> found;
    for (const auto& [name, machine] : machines_) found.push_back(machine.info);
    return found;
  }
  Status forget_machine(const std::string& name) override {
    machines_.erase(name);
    return {};
  }
  Result<std::vector<CheckpointInfo>> checkpoints(const std::string& machine) const override {
    auto found = machines_.find(machine);
    if (found == machines_.end()) return make_error(Code::not_found, machine);
    std::vector<CheckpointInfo> kept;
    for (const auto& [number, checkpoint] : found->second.kept) kept.push_back(checkpoint->info);
    return kept;
  }
  Result<CheckpointInfo> checkpoint(const CheckpointId& id) const override {
    auto kept = find(id);
    if (!kept) return make_error(Code::not_found, id.machine);
    return kept->info;
  }
  Result<std::unique_ptr<EpochWriter>> begin_epoch(const std::string& machine, std::uint64_t number,
                                                   const EpochBase& base, const std::vector<Object>& objects) override {
    auto found = machines_.find(machine);
    if (found == machines_.end()) return make_error(Code::not_found, machine);
    auto* closed = static_cast<MemoryWriter*>(base.closed);
    auto parent = find(base.parent);
    if (base.parent.number != 0 && !closed && !parent) return make_error(Code::not_found, base.parent.machine);
    return std::unique_ptr<EpochWriter>(new MemoryWriter(found->second, number, base.parent, parent, closed, objects));
  }
  Result<std::unique_ptr<CheckpointReader>> open_checkpoint(const CheckpointId& id) override {
    auto kept = find(id);
    if (!kept) return make_error(Code::not_found, id.machine);
    return std::unique_ptr<CheckpointReader>(new MemoryReader(kept));
  }
  Status remove(const std::string& machine, std::span<const std::uint64_t> numbers) override {
    for (std::uint64_t number : numbers) machines_[machine].kept.erase(number);
    return {};
  }
  Status name(const CheckpointId&, const std::string&) override { return refused(); }
  Status pin(const CheckpointId&, const std::string&) override { return refused(); }
  Status unpin(const CheckpointId&, const std::string&) override { return refused(); }
  Result<std::uint64_t> collect() override { return std::uint64_t{0}; }
  Result<Verification> verify(std::span<const CheckpointId>, bool (*)(void*, const VerifyProgress&), void*) override {
    return refused();
  }
  std::vector<std::string> undermined(std::span<const Damage>) override { return {}; }
  StoreStats stats() const override { return {}; }
  Status refresh() override { return {}; }

private:
  static Error refused() { return make_error(Code::refused, "not in the model"); }
  std::shared_ptr<const Kept> find(const CheckpointId& id) const {
    auto machine = machines_.find(id.machine);
    if (machine == machines_.end()) return nullptr;
    auto found = machine->second.kept.find(id.number);
    return found == machine->second.kept.end() ? nullptr : found->second;
  }

  std::map<std::string, Machine> machines_;
};

}  // namespace

std::unique_ptr<Store> make_memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace ckpt::tools
