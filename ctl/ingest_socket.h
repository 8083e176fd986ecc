// ctl/ingest_socket.h: which daemon events are given to, when --socket names an admin socket.
//
// Thread:  any.

#pragma once

#include <filesystem>

#include "ctl/session.h"

namespace telemetryd::ctl {

// --ingest-socket; else TELEMETRYD_SOCKET; else, when --socket was given, what that daemon's status
// says, or the file beside it. Empty: the client library looks in the standard places.
std::filesystem::path ingest_socket_of(const Session& session);

}  // namespace telemetryd::ctl
