// config/address.h: addresses and names as configuration writes them.
//
// Thread:  any; no state.

#pragma once

#include <string_view>

namespace telemetryd::config {

// Whether `text` is made of a-z, 0-9, with `upper` A-Z, and the characters of `extra`.
bool made_of(std::string_view text, std::string_view extra, bool upper);

// Text between scheme and path, without the port; empty when there is none. An IPv6 address keeps
// its brackets.
std::string_view host_of(std::string_view url);

// Whether a host as in a URL can only be this machine.
bool is_loopback(std::string_view host);

// "HOST:PORT" as parts, with HOST a name, an IPv4 address or an IPv6 address in brackets; both are
// empty when it is something else.
struct HostPort {
  std::string_view host;
  std::string_view port;
};

HostPort host_port_of(std::string_view text);

}  // namespace telemetryd::config
