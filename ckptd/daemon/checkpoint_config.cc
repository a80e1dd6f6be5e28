// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/checkpoint_config.h"

namespace ckptd {

namespace {

constexpr std::size_t config_limit_bytes = json_line_limit_bytes;

}  // namespace

ckpt::Result<Json> read_config(ckpt::CheckpointReader& reader) {
  for (std::size_t i = 0; i < reader.objects().size(); ++i) {
    const auto& object = reader.objects()[i];
    if (object.object_class != ckpt::ObjectClass::config || object.size_bytes == 0) continue;
    if (object.size_bytes > config_limit_bytes)
      return ckpt::make_error(ckpt::Code::limit, "the checkpoint's configuration is larger than 1 MiB");
    std::string text(object.size_bytes, '\0');
    CKPT_TRY(reader.read(i, 0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}));
    return parse_object(text);
  }
  return Json(Json::object());
}

}  // namespace ckptd
