#include "config/address.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>

namespace telemetryd::config {
namespace {

constexpr std::size_t kHostBytesMax = 253;  // of a DNS name

bool is_ipv6(std::string_view text) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  return inet_pton(AF_INET6, std::string(text).c_str(), address.data()) == 1;
}

bool is_host(std::string_view host) {
  if (host.starts_with('[')) {
    return host.ends_with(']') && is_ipv6(host.substr(1, host.size() - 2));
  }
  return !host.empty() && host.size() <= kHostBytesMax && made_of(host, "-.", true);
}

bool is_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

bool made_of(std::string_view text, std::string_view extra, bool upper) {
  return std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (upper && c >= 'A' && c <= 'Z') ||
           extra.find(c) != std::string_view::npos;
  });
}

std::string_view host_of(std::string_view url) {
  std::string_view rest = url.substr(url.find("://") + 3);
  rest = rest.substr(0, rest.find('/'));
  if (rest.starts_with('[')) return rest.substr(0, rest.find(']') + 1);
  return rest.substr(0, rest.find(':'));
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "[::1]") return true;
  return host.starts_with("127.") && std::ranges::all_of(host.substr(4), [](char c) {
           return c == '.' || (c >= '0' && c <= '9');
         });
}

HostPort host_port_of(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return {};
  const HostPort parts{text.substr(0, colon), text.substr(colon + 1)};
  return is_host(parts.host) && is_port(parts.port) ? parts : HostPort{};
}

}  // namespace telemetryd::config
