// identity/identity.h: the salted machine ID, derived once per app, stored, never raw.
//
// machine ID = lower-case hex SHA-256(salt || uid), salt "<app>.telemetry.v1" (seeds: rtb-telemetry
// order); the telemetry-kit order, "client_" + hex SHA-256(uid || "telemetry-kit-v1"), is the named
// scheme "telemetry-kit". The uid is trimmed text of /var/lib/dbus/machine-id or /etc/machine-id.
// It is held only while hashing, wiped after, and appears in no log, file or packet.
//
// Thread:  derive() any; Identity on the loop, which asks the store thread for persistence.

#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace telemetryd::identity {

enum class Scheme { kSaltThenUid, kTelemetryKit };

// The hash itself, for a uid already read. Test vector: salt "mytool.telemetry.v1", uid
// "0123456789abcdef0123456789abcdef" gives 0e5455e7...1c8e.
std::string hash(Scheme scheme, std::string_view app, std::string_view uid);

struct Derived {
  std::string machine_id;
  std::string
      source;  // "machine-id", or "random: <why>" when the uid was missing, empty or a placeholder
};

// Reads the uid, hashes it for `app`, wipes it. A missing, empty, all-zero, all-f, "uninitialized"
// or malformed uid gives a random ID, which the caller must persist. `uid_file` empty: the usual
// places.
Derived derive(Scheme scheme, std::string_view app, const std::filesystem::path& uid_file);

}  // namespace telemetryd::identity
