// SPDX-License-Identifier: LGPL-2.1-or-later
#include "unit/store_model.h"

#include <algorithm>

namespace ckpt {

namespace {

const char* const store_path = "/disk/store";
const std::vector<std::string> machine_names = {"alpha", "beta", "gamma"};
constexpr std::size_t page = page_size_bytes;

std::vector<Object> some_objects(std::uint64_t ram_pages, std::uint64_t disk_bytes) {
  return {{ObjectClass::ram, "pc.ram", ram_pages * page, 4096, 0},
          {ObjectClass::disk, "vda", disk_bytes, 0, 0},
          {ObjectClass::device_state, "devices", 0, 0, 0}};
}

}  // namespace

StoreOptions model_options() {
  return {.create = true, .segment_size_bytes = 24 << 10, .index_limit_bytes = 1 << 20, .epoch_map_bytes = 1 << 10};
}

Status Workload::open() {
  CKPT_ASSIGN(store_, Store::open(env_, store_path, model_options()));
  return {};
}

void Workload::close() {
  open_.clear();
  store_.reset();
}

Status Workload::run(int steps) {
  CKPT_TRY(open());
  for (int i = 0; i < steps; ++i) CKPT_TRY(step());
  return {};
}

Status Workload::attempt(const std::function<Status()>& operation, Model after) {
  attempted_ = std::move(after);
  CKPT_TRY(operation());
  model_ = std::move(*attempted_);
  attempted_.reset();
  return {};
}

Status Workload::step() {
  if (model_.empty()) return add_machine();
  switch (dice(16)) {
    case 0:
      return model_.size() < machine_names.size() ? add_machine() : commit_one();
    case 1:
    case 2:
      return remove_some();
    case 3:
      return mark();
    case 4:
    case 5:
    case 6: {
      CKPT_ASSIGN([[maybe_unused]] auto freed, store_->collect());
      return {};
    }
    case 7:
      return dice(4) == 0 ? forget() : commit_one();
    case 8: {
      if (!open_.empty()) open_.pop_back();
      return {};
    }
    case 9: {
      if (dice(3) != 0) return commit_one();
      close();
      return open();
    }
    default:
      return commit_one();
  }
}

// Keeps an epoch open behind it now and then, as a stream does.
Status Workload::commit_one() {
  if (model_.empty()) return add_machine();
  if (open_.empty()) CKPT_TRY(begin(some_machine(), nullptr));
  std::size_t index = dice(open_.size());
  CKPT_TRY(change(open_[index]));
  if (dice(3) == 0) {
    std::string machine = open_[index].machine;
    CKPT_TRY(begin(machine, &open_[index]));
    CKPT_TRY(change(open_[index]));
    for (std::size_t i = 0; i < 2; ++i) {
      auto& content = open_.back().content.contents[i];
      std::size_t size = content.size();
      content = open_[index].content.contents[i];
      content.resize(size);
    }
    CKPT_TRY(change(open_.back()));
  }
  return commit(index);
}

std::string Workload::some_machine() {
  auto at = model_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(dice(model_.size())));
  return at->first;
}

Status Workload::begin(const std::string& machine, Open* closed) {
  Open epoch;
  epoch.machine = machine;
  EpochBase base;
  std::uint64_t ram_pages = 100;
  std::uint64_t disk_bytes = 70 * page;
  const ModelCheckpoint* before = nullptr;
  const ModelMachine& parents = model_[dice(8) == 0 ? some_machine() : machine];
  if (closed != nullptr) {
    base.closed = closed->writer.get();
    before = &closed->content;
    epoch.after_closed = true;
  } else if (!parents.empty() && dice(10) != 0) {
    auto parent = dice(4) != 0 ? std::prev(parents.end())
                               : std::next(parents.begin(), static_cast<std::ptrdiff_t>(dice(parents.size())));
    for (const auto& [name, known] : model_) {
      if (&known == &parents) base.parent = {name, parent->first};
    }
    before = &parent->second;
  }
  if (before != nullptr && dice(6) != 0)
    disk_bytes = before->objects[1].size_bytes;
  else
    disk_bytes = 512 * (1 + dice(900));
  epoch.content.objects = some_objects(ram_pages, disk_bytes);
  for (std::size_t i = 0; i < 2; ++i) {
    std::vector<std::uint8_t> bytes = before != nullptr ? before->contents[i] : std::vector<std::uint8_t>();
    bytes.resize(epoch.content.objects[i].size_bytes);
    epoch.content.contents.push_back(std::move(bytes));
  }
  epoch.content.contents.emplace_back();
  std::uint64_t number = ++numbers_[machine];
  CKPT_ASSIGN(epoch.writer, store_->begin_epoch(machine, number, base, epoch.content.objects));
  open_.push_back(std::move(epoch));
  return {};
}

std::vector<std::uint8_t> Workload::some_bytes(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  std::uint64_t kind = dice(4);
  std::uint64_t word =
      dice(kind == 0 ? 3 : 1u << 20);  // few different ones now and then, so that pages are found again
  for (std::size_t i = 0; i < size; ++i) {
    if (i % 8 == 0 && kind > 1) word = word * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = static_cast<std::uint8_t>(word >> (i % 8 * 8));
  }
  return bytes;
}

Status Workload::change(Open& epoch) {
  std::uint64_t count = 1 + dice(4);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::size_t object = dice(2);
    auto& content = epoch.content.contents[object];
    std::uint64_t unit = object == 0 ? page : 512;
    std::uint64_t units = content.size() / unit;
    if (units == 0) continue;
    std::uint64_t offset = dice(units) * unit;
    std::uint64_t length = std::min<std::uint64_t>((1 + dice(6)) * unit, content.size() - offset);
    if (dice(4) == 0) {
      if (dice(4) == 0) length = content.size() - offset;
      CKPT_TRY(epoch.writer->zero(object, offset, length));
      std::fill_n(content.begin() + static_cast<std::ptrdiff_t>(offset), length, std::uint8_t{0});
    } else {
      auto bytes = some_bytes(length);
      CKPT_TRY(epoch.writer->write(object, offset, bytes));
      std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(offset));
    }
  }
  auto& devices = epoch.content.contents[2];
  auto bytes = some_bytes(1 + dice(3000));
  CKPT_TRY(epoch.writer->write(2, devices.size(), bytes));
  devices.insert(devices.end(), bytes.begin(), bytes.end());
  epoch.content.objects[2].size_bytes = devices.size();
  return {};
}

Status Workload::commit(std::size_t index) {
  Open epoch = std::move(open_[index]);
  open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(index));
  std::uint64_t number = epoch.writer->number();
  std::erase_if(open_,
                [&](const Open& other) { return other.machine == epoch.machine && other.writer->number() < number; });
  const ModelMachine& known = model_[epoch.machine];
  bool base_is_there = !epoch.after_closed || known.contains(number - 1);
  bool newest = known.empty() || known.rbegin()->first < number;
  if (!base_is_there || !newest) {
    // Abandoned, and with it what builds upon it.
    std::erase_if(open_, [&](const Open& other) { return other.machine == epoch.machine; });
    return {};
  }
  Model after = model_;
  after[epoch.machine][number] = epoch.content;
  return attempt(
      [&]() -> Status {
        CKPT_ASSIGN([[maybe_unused]] auto made, epoch.writer->commit({}));
        return {};
      },
      std::move(after));
}

Status Workload::add_machine() {
  for (const std::string& name : machine_names) {
    if (model_.contains(name)) continue;
    Model after = model_;
    after[name];
    numbers_[name] = 0;
    return attempt([&] { return store_->add_machine(name, {}); }, std::move(after));
  }
  return {};
}

Status Workload::remove_some() {
  std::string machine = some_machine();
  Model after = model_;
  std::vector<std::uint64_t> numbers;
  for (const auto& [number, checkpoint] : model_[machine]) {
    if (checkpoint.pins.empty() && dice(2) == 0) numbers.push_back(number);
  }
  for (std::uint64_t number : numbers) after[machine].erase(number);
  return attempt([&] { return store_->remove(machine, numbers); }, std::move(after));
}

Status Workload::mark() {
  std::string machine = some_machine();
  if (model_[machine].empty()) return {};
  auto at = std::next(model_[machine].begin(), static_cast<std::ptrdiff_t>(dice(model_[machine].size())));
  CheckpointId id{machine, at->first};
  Model after = model_;
  ModelCheckpoint& checkpoint = after[machine][id.number];
  if (dice(2) == 0) {
    checkpoint.name = "point " + std::to_string(id.number);
    return attempt([&] { return store_->name(id, "point " + std::to_string(id.number)); }, std::move(after));
  }
  if (checkpoint.pins.empty()) {
    checkpoint.pins.push_back("test");
    return attempt([&] { return store_->pin(id, "test"); }, std::move(after));
  }
  checkpoint.pins.clear();
  return attempt([&] { return store_->unpin(id, "test"); }, std::move(after));
}

Status Workload::forget() {
  std::string machine = some_machine();
  for (const auto& [number, checkpoint] : model_[machine]) {
    if (!checkpoint.pins.empty()) return {};
  }
  std::erase_if(open_, [&](const Open& epoch) { return epoch.machine == machine; });
  Model after = model_;
  after.erase(machine);
  return attempt([&] { return store_->forget_machine(machine); }, std::move(after));
}

namespace {

std::string compare(Store& store, const CheckpointId& id, const ModelCheckpoint& expected) {
  std::string where = to_string(id) + ": ";
  auto info = store.checkpoint(id);
  if (!info) return where + info.error().message();
  if (info->name != expected.name || info->pins != expected.pins) return where + "name or pins";
  auto reader = store.open_checkpoint(id);
  if (!reader) return where + reader.error().message();
  if ((*reader)->objects().size() != expected.objects.size()) return where + "objects";
  for (std::size_t i = 0; i < expected.objects.size(); ++i) {
    if ((*reader)->objects()[i].size_bytes != expected.contents[i].size()) return where + "size";
    std::vector<std::uint8_t> bytes(expected.contents[i].size());
    Status status = (*reader)->read(i, 0, bytes);
    if (!status) return where + status.error().message();
    auto wrong = std::mismatch(bytes.begin(), bytes.end(), expected.contents[i].begin());
    if (wrong.first == bytes.end()) continue;
    return where + "object " + std::to_string(i) + " of " + std::to_string(bytes.size()) + " bytes, at " +
           std::to_string(wrong.first - bytes.begin()) + ": " + std::to_string(*wrong.first) + " instead of " +
           std::to_string(*wrong.second);
  }
  return {};
}

}  // namespace

std::string difference(Store& store, const Model& model) {
  if (store.machines().size() != model.size()) return "number of machines";
  for (const auto& [machine, checkpoints] : model) {
    auto listed = store.checkpoints(machine);
    if (!listed) return machine + ": " + listed.error().message();
    if (listed->size() != checkpoints.size()) return machine + ": number of checkpoints";
    for (const auto& [number, expected] : checkpoints) {
      std::string wrong = compare(store, {machine, number}, expected);
      if (!wrong.empty()) return wrong;
    }
  }
  return {};
}

}  // namespace ckpt
