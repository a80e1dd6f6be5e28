// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/result.h"
#include "ckpt/store.h"
#include "format/stream_codec.h"

namespace ckpt {

// One epoch on its way from the stream into the store: its object table, what has been counted, and its writer.
class StreamEpoch {
public:
  // `config` is kept beside the client's objects; empty: there is none.
  static Result<std::unique_ptr<StreamEpoch>> begin(Store& store, const std::string& machine, std::uint64_t number,
                                                    const EpochBase& base, const wire::EpochBegin& begin,
                                                    const std::string& config);

  std::uint64_t number() const { return writer_->number(); }
  EpochWriter& writer() { return *writer_; }

  bool is_disk(std::uint32_t object) const;
  bool has_disk_data() const { return has_disk_data_; }

  Status data(const wire::Data& data);
  Status zero(const wire::Zero& zero);
  // Whether all that the client sent has arrived.
  Status check_counts(const wire::EpochEnd& end) const;

private:
  static constexpr std::uint16_t absent = 0xFFFF;

  StreamEpoch() { index_of_.fill(absent); }
  Status place(const char* message, std::uint32_t object, std::uint64_t offset, std::uint64_t length);

  std::unique_ptr<EpochWriter> writer_;
  std::vector<Object> objects_;
  std::array<std::uint16_t, wire::max_objects> index_of_;  // by the client's number
  std::uint64_t data_count_ = 0;
  std::uint64_t zero_count_ = 0;
  std::uint64_t data_bytes_ = 0;
  std::uint64_t device_state_bytes_ = 0;
  bool has_disk_data_ = false;
};

}  // namespace ckpt
