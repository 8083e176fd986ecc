#include "server/peer_network.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>

namespace telemetryd::server {
namespace {

constexpr std::size_t kMappedPrefixBytes = 12;
constexpr std::size_t kNetworkBytes = 8;

}  // namespace

Bytes16 peer_network(const sockaddr* address) {
  Bytes16 network{};
  if (address == nullptr) return network;
  if (address->sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
    std::fill_n(network.begin() + kMappedPrefixBytes - 2, 2, std::uint8_t{0xff});
    std::memcpy(network.data() + kMappedPrefixBytes, &v4, sizeof v4);
  } else if (address->sa_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&v6);
    std::memcpy(network.data(), &v6, mapped ? network.size() : kNetworkBytes);
  }
  return network;
}

}  // namespace telemetryd::server
