// server/peer_network.h: where a request came from, as far as one sender is told from another.
//
// Whoever has one IPv6 address has the 2^64 of its network, so all of them are one sender here.
//
// Thread:  any; a value.

#pragma once

#include "base/bytes.h"

struct sockaddr;

namespace telemetryd::server {

// An IPv4 address as IPv6 has it (::ffff:a.b.c.d); of IPv6 the network of 64 bits. Zeros: unknown.
Bytes16 peer_network(const sockaddr* address);

}  // namespace telemetryd::server
