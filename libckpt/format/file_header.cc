// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format/file_header.h"

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"

namespace ckpt {

namespace {
constexpr std::size_t magic_bytes = 8;
}

void encode_file_header(Bytes& out, std::string_view magic, std::uint32_t version, ByteView body) {
  CKPT_CHECK(magic.size() == magic_bytes && body.size() <= file_header_body_bytes);
  std::size_t start = out.size();
  ByteWriter writer(out);
  writer.bytes(as_bytes(magic));
  writer.u32(version);
  writer.u32(0);
  writer.bytes(body);
  writer.zeroes(file_header_body_bytes - body.size());
  writer.u64(checksum(ByteView(out).subspan(start)));
}

Result<ByteView> decode_file_header(ByteView bytes, std::string_view magic, std::uint32_t version,
                                    const std::string& what) {
  ByteReader reader(bytes);
  if (!is_magic(reader.bytes(magic_bytes), magic)) return make_error(Code::corrupt, "not a " + what);
  std::uint32_t found = reader.u32();
  if (reader.ok() && found > version) {
    return make_error(Code::version, what + " of version " + std::to_string(found));
  }
  reader.skip(4);
  ByteView body = reader.bytes(file_header_body_bytes);
  std::size_t checked = reader.offset();
  std::uint64_t sum = reader.u64();
  if (!reader.ok() || sum != checksum(bytes.first(checked))) {
    return make_error(Code::corrupt, what + " header fails its checksum");
  }
  return body;
}

bool is_magic(ByteView bytes, std::string_view magic) {
  return bytes.size() == magic.size() && std::equal(bytes.begin(), bytes.end(), as_bytes(magic).begin());
}

}  // namespace ckpt
