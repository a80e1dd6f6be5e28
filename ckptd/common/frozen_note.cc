// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/frozen_note.h"

#include "common/libvirt_domain.h"

namespace ckptd {

using ckpt::Code;
using ckpt::make_error;

namespace {

constexpr std::uint64_t version = 1;

}  // namespace

Json to_json(const FrozenNote& note) {
  return {{"version", version},         {"domain", note.domain}, {"socket", note.socket},
          {"qemu", to_json(note.qemu)}, {"reason", note.reason}, {"since_ns", note.since_ns}};
}

ckpt::Result<FrozenNote> frozen_note_from_json(const Json& json) {
  if (number_of(json, "version") != version) return make_error(Code::version, "it is of another version");
  FrozenNote note;
  note.domain = text_of(json, "domain");
  note.socket = text_of(json, "socket");
  note.qemu = process_from_json(member_of(json, "qemu"));
  note.reason = text_of(json, "reason");
  note.since_ns = number_of(json, "since_ns");
  const bool libvirts = is_uuid(note.domain) && note.socket.empty();
  const bool plain = note.domain.empty() && note.socket.starts_with('/') && note.qemu.identified();
  if (!libvirts && !plain) return make_error(Code::invalid, "it does not say how the guest is reached");
  return note;
}

}  // namespace ckptd
