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

// The same for those who must name a path: beside the admin socket when nothing else is said.
std::filesystem::path resolved_ingest_socket(const Session& session);

}  // namespace telemetryd::ctl
