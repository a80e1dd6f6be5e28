// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/stream_epoch.h"

#include "base/bytes.h"

namespace ckpt {
namespace {

constexpr char config_name[] = "machine";

Error broken(std::string what) { return make_error(Code::protocol, std::move(what)); }

std::string mismatch(const char* what, std::uint64_t announced, std::uint64_t received) {
  return "EPOCH_END announces " + std::to_string(announced) + " " + what + ", but " + std::to_string(received) +
         " came";
}

}  // namespace

Result<std::unique_ptr<StreamEpoch>> StreamEpoch::begin(Store& store, const std::string& machine, std::uint64_t number,
                                                        const EpochBase& base, const wire::EpochBegin& begin,
                                                        const std::string& config) {
  std::unique_ptr<StreamEpoch> epoch(new StreamEpoch);
  for (const wire::NumberedObject& entry : begin.objects) {
    epoch->index_of_[entry.number] = static_cast<std::uint16_t>(epoch->objects_.size());
    epoch->objects_.push_back(entry.object);
  }
  if (!config.empty()) epoch->objects_.push_back({ObjectClass::config, config_name, 0, 0, 0});
  CKPT_ASSIGN(epoch->writer_, store.begin_epoch(machine, number, base, epoch->objects_));
  if (!config.empty()) CKPT_TRY(epoch->writer_->write(epoch->objects_.size() - 1, 0, as_bytes(config)));
  return epoch;
}

bool StreamEpoch::is_disk(std::uint32_t object) const {
  return object < wire::max_objects && index_of_[object] != absent &&
         objects_[index_of_[object]].object_class == ObjectClass::disk;
}

Status StreamEpoch::place(const char* message, std::uint32_t object, std::uint64_t offset, std::uint64_t length) {
  std::string where = std::string(message) + " of epoch " + std::to_string(number()) + ": ";
  if (object >= wire::max_objects || index_of_[object] == absent)
    return broken(where + "object " + std::to_string(object) + " is not in the epoch's table");
  const Object& target = objects_[index_of_[object]];
  where += std::to_string(length) + " bytes at " + std::to_string(offset) + " of " + target.name + " ";
  if (target.object_class == ObjectClass::device_state) {
    if (offset != device_state_bytes_)
      return broken(where + "do not follow the " + std::to_string(device_state_bytes_) + " before");
    if (length > wire::max_device_state_bytes - offset) return broken(where + "make device state larger than 64 MiB");
    return {};
  }
  std::uint64_t alignment = target.object_class == ObjectClass::ram ? wire::ram_alignment : wire::disk_alignment;
  if (offset % alignment != 0 || length % alignment != 0)
    return broken(where + "are not aligned to " + std::to_string(alignment));
  if (offset > target.size_bytes || length > target.size_bytes - offset)
    return broken(where + "pass its end at " + std::to_string(target.size_bytes));
  return {};
}

Status StreamEpoch::data(const wire::Data& data) {
  CKPT_TRY(place("DATA", data.object, data.offset, data.bytes.size()));
  std::size_t index = index_of_[data.object];
  CKPT_TRY(writer_->write(index, data.offset, data.bytes));
  if (objects_[index].object_class == ObjectClass::device_state) device_state_bytes_ += data.bytes.size();
  if (objects_[index].object_class == ObjectClass::disk) has_disk_data_ = true;
  ++data_count_;
  data_bytes_ += data.bytes.size();
  return {};
}

Status StreamEpoch::zero(const wire::Zero& zero) {
  CKPT_TRY(place("ZERO", zero.object, zero.offset, zero.length));
  std::size_t index = index_of_[zero.object];
  if (objects_[index].object_class == ObjectClass::device_state)
    return broken("ZERO names device state, which only takes DATA");
  CKPT_TRY(writer_->zero(index, zero.offset, zero.length));
  if (objects_[index].object_class == ObjectClass::disk) has_disk_data_ = true;
  ++zero_count_;
  return {};
}

Status StreamEpoch::check_counts(const wire::EpochEnd& end) const {
  if (end.data_count != data_count_) return broken(mismatch("DATA messages", end.data_count, data_count_));
  if (end.zero_count != zero_count_) return broken(mismatch("ZERO messages", end.zero_count, zero_count_));
  if (end.data_bytes != data_bytes_) return broken(mismatch("bytes of data", end.data_bytes, data_bytes_));
  return {};
}

}  // namespace ckpt
