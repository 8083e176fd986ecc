// server/listen_socket.h: "HOST:PORT" to a socket that listens there.
//
// Thread:  any.
// Fails:   kInvalidArgument for what is no numeric address with a port, else as the kernel says.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::server {

struct ListenAddress {
  std::string host;  // numeric, IPv6 without brackets
  std::uint16_t port = 0;
  bool loopback = false;
};

// "127.0.0.1:8080", "[::1]:8080", "localhost:8080"; port 0 lets the kernel choose.
[[nodiscard]] Result<ListenAddress> parse_listen(std::string_view text);

struct ListenSocket {
  UniqueFd fd;
  std::uint16_t port = 0;  // the bound one
};

[[nodiscard]] Result<ListenSocket> listen_on(const ListenAddress& address);

// "127.0.0.1:43211" or "[::1]:43211".
std::string authority(const ListenAddress& address, std::uint16_t port);

}  // namespace telemetryd::server
