// telemetry_core/surroundings.h: where the daemon listens, and what this process was told about
// consent.
//
// The environment is read once, when the client opens, because reading it later would race with
// the app. Files are read when they matter: the user's consent file at open, the daemon's policy
// file (beside its socket) before each connection.
//
// Thread:  read_surroundings() on the opening thread; the rest any.
// Limits:  small files only: kSmallFileBytesMax; anything longer counts as unreadable.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "consent/consent.h"

namespace telemetryd::client {

constexpr size_t kSocketPathBytesMax = 108;  // of sockaddr_un, with the NUL
constexpr size_t kSocketPathsMax = 2;
constexpr size_t kSmallFileBytesMax = 4096;

struct Surroundings {
  char sockets[kSocketPathsMax][kSocketPathBytesMax];
  size_t socket_count;
  consent::Inputs inputs;  // machine policy left open
};

// `socket_path` overrides everything and may be null. False when it is too long for a socket.
bool read_surroundings(const char* app, const char* socket_path, Surroundings& out);

// What the client may do at socket number `index`, by the policy published there. A policy file
// that cannot be understood counts as off, a missing one as "no daemon has said".
consent::Decision decide_at(const Surroundings& surroundings, size_t index);

// The same before any connection: by the first socket beside which a policy is published.
consent::Decision decide_first(const Surroundings& surroundings);

}  // namespace telemetryd::client
