// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon/verbs.h"

#include "common/text.h"

namespace ckptd {

const std::map<std::string, Verbs::Handler>& Verbs::table() {
  static const std::map<std::string, Handler> verbs = {
      {"hello", &Verbs::hello},
      {"status", &Verbs::status},
      {"watch", &Verbs::watch},
      {"list", &Verbs::list},
      {"show", &Verbs::show},
      {"restores", &Verbs::restores},
      {"verify", &Verbs::verify},
      {"checkpoint", &Verbs::checkpoint},
      {"name", &Verbs::name},
      {"pin", &Verbs::pin},
      {"unpin", &Verbs::unpin},
      {"remove", &Verbs::remove},
      {"forget", &Verbs::forget},
      {"protect", &Verbs::protect},
      {"unprotect", &Verbs::unprotect},
      {"set", &Verbs::set},
      {"restore_begin", &Verbs::restore_begin},
      {"restore_abandon", &Verbs::restore_abandon},
      {"restore_update", &Verbs::restore_update},
      {"finish", &Verbs::finish},
      {"domain_restore_begin", &Verbs::domain_restore_begin},
      {"domain_restore_start", &Verbs::domain_restore_start},
  };
  return verbs;
}

ckpt::Result<Json> Verbs::handle(const Json& request, const Reply& reply) {
  CKPT_ASSIGN(std::string verb, required_string(request, "verb"));
  auto it = table().find(verb);
  if (it == table().end())
    return ckpt::make_error(ckpt::Code::invalid, "unknown verb '" + verb.substr(0, 64) +
                                                     "': is ckptctl newer than this ckptd (" CKPT_VERSION ")?");
  // Here, so that each verb says the same of a name that cannot be one.
  for (const char* key : {"machine", "as"}) {
    CKPT_ASSIGN(std::string machine, string_field(request, key));
    if (!machine.empty()) CKPT_TRY(check_machine_name(machine));
  }
  return (this->*it->second)(request, reply);
}

ckpt::Result<ckpt::CheckpointInfo> Verbs::resolve(const Json& request) {
  CKPT_ASSIGN(std::string machine, required_string(request, "machine"));
  CKPT_ASSIGN(std::string point, string_field(request, "point", "latest"));
  return daemon_.resolve(machine, point);
}

}  // namespace ckptd
