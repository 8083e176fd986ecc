#include "server/listen_socket.h"

#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/io.h"

namespace telemetryd::server {
namespace {

constexpr int kBacklog = 511;

union Address {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

// The size of the address, 0 for text that is none.
socklen_t to_sockaddr(const ListenAddress& from, Address& to) {
  to = {};
  if (inet_pton(AF_INET, from.host.c_str(), &to.v4.sin_addr) == 1) {
    to.v4.sin_family = AF_INET;
    to.v4.sin_port = htons(from.port);
    return sizeof(to.v4);
  }
  if (inet_pton(AF_INET6, from.host.c_str(), &to.v6.sin6_addr) == 1) {
    to.v6.sin6_family = AF_INET6;
    to.v6.sin6_port = htons(from.port);
    return sizeof(to.v6);
  }
  return 0;
}

bool is_loopback(const Address& address) {
  if (address.any.sa_family == AF_INET) return ntohl(address.v4.sin_addr.s_addr) >> 24 == 127;
  return IN6_IS_ADDR_LOOPBACK(&address.v6.sin6_addr);
}

}  // namespace

Result<ListenAddress> parse_listen(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorCode::kInvalidArgument,
                "\"" + std::string(text) +
                    "\" is no address to listen on; write 127.0.0.1:8080 or [::]:8080");
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!bracketed && host.find(':') != std::string_view::npos) return wrong();
  ListenAddress address;
  address.host = host == "localhost" ? "127.0.0.1" : std::string(host);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size()) return wrong();
  Address raw;
  if (to_sockaddr(address, raw) == 0) return wrong();
  address.loopback = is_loopback(raw);
  return address;
}

Result<ListenSocket> listen_on(const ListenAddress& address) {
  Address raw;
  socklen_t size = to_sockaddr(address, raw);
  const std::string what = "listening on " + authority(address, address.port);
  ListenSocket listener;
  listener.fd = UniqueFd(
      ::socket(raw.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!listener.fd) return fail(error_from_errno(errno, what));
  const int on = 1;
  ::setsockopt(listener.fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(listener.fd.get(), &raw.any, size) != 0 ||
      ::listen(listener.fd.get(), kBacklog) != 0 ||
      ::getsockname(listener.fd.get(), &raw.any, &size) != 0) {
    return fail(error_from_errno(errno, what));
  }
  listener.port = ntohs(raw.any.sa_family == AF_INET ? raw.v4.sin_port : raw.v6.sin6_port);
  return listener;
}

std::string authority(const ListenAddress& address, std::uint16_t port) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return (v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(port);
}

}  // namespace telemetryd::server
