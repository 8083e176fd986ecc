// admin/peer.h: who is at the other end of a Unix socket, and whether they are an admin.
//
// Thread:  any. Reads the user database, which may be on the network: not for the loop.

#pragma once

#include <string>

#include "admin/admin_server.h"
#include "base/result.h"

namespace telemetryd::admin {

[[nodiscard]] Result<Peer> peer_of(int fd, const std::string& admin_group);

// Whether `uid` is root, our own user, or a member of `group`, primary or not. A group that does
// not exist has no members.
bool is_admin(std::uint32_t uid, const std::string& group);

}  // namespace telemetryd::admin
