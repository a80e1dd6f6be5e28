// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Little-endian bytes in and out. The reader's input is hostile: reading past the end gives zeroes and makes ok()
// false for good, so a decoder reads a whole structure and asks once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ckpt {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline std::string_view as_text(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

template <typename T>
T load_le(const std::uint8_t* from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(T{from[i]} << (8 * i)));
  return value;
}

template <typename T>
void store_le(std::uint8_t* to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

class ByteReader {
public:
  explicit ByteReader(ByteView bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return bytes_.size() - offset_; }
  // All was read, and nothing more than all.
  bool finished() const { return ok_ && remaining() == 0; }
  // For a decoder's own rules: a value that was there but is not allowed.
  void fail() {
    ok_ = false;
    offset_ = bytes_.size();
  }

  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint16_t u16() { return number<std::uint16_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }

  // A view into the input; empty when there is less.
  ByteView bytes(std::size_t length) {
    if (!ok_ || length > remaining()) {
      fail();
      return {};
    }
    ByteView view = bytes_.subspan(offset_, length);
    offset_ += length;
    return view;
  }
  ByteView rest() { return bytes(remaining()); }
  void skip(std::size_t length) { (void)bytes(length); }

  template <typename Array>
  void copy_to(Array& out) {
    ByteView view = bytes(out.size());
    if (ok_ && !view.empty()) std::memcpy(out.data(), view.data(), view.size());
  }

  // u16 length and that many bytes; longer than `limit` fails.
  std::string string(std::size_t limit = 0xFFFF) {
    std::size_t length = u16();
    if (length > limit) fail();
    ByteView view = bytes(length);
    return {reinterpret_cast<const char*>(view.data()), view.size()};
  }

private:
  template <typename T>
  T number() {
    ByteView view = bytes(sizeof(T));
    return view.empty() ? T{0} : load_le<T>(view.data());
  }

  ByteView bytes_;
  std::size_t offset_ = 0;
  bool ok_ = true;
};

// Appends to a vector that the caller owns.
class ByteWriter {
public:
  explicit ByteWriter(Bytes& out) : out_(out) {}

  std::size_t offset() const { return out_.size(); }

  void u8(std::uint8_t value) { out_.push_back(value); }
  void u16(std::uint16_t value) { number(value); }
  void u32(std::uint32_t value) { number(value); }
  void u64(std::uint64_t value) { number(value); }
  void bytes(ByteView view) { out_.insert(out_.end(), view.begin(), view.end()); }
  void zeroes(std::size_t count) { out_.insert(out_.end(), count, 0); }
  // Cut to 65,535 bytes, which is what the length can say.
  void string(std::string_view text) {
    text = text.substr(0, 0xFFFF);
    u16(static_cast<std::uint16_t>(text.size()));
    bytes(as_bytes(text));
  }

  // Fill in what was not known when the place was written.
  void patch_u32(std::size_t at, std::uint32_t value) { store_le(out_.data() + at, value); }
  void patch_u64(std::size_t at, std::uint64_t value) { store_le(out_.data() + at, value); }

private:
  template <typename T>
  void number(T value) {
    std::size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_le(out_.data() + at, value);
  }

  Bytes& out_;
};

}  // namespace ckpt
