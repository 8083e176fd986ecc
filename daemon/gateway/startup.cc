#include "gateway/startup.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "base/flags.h"
#include "base/inherited.h"
#include "base/io.h"
#include "base/log.h"
#include "config/address.h"

namespace telemetryd::gateway {
namespace {

constexpr unsigned kInheritedMax = 16;
constexpr int kBacklog = 128;
constexpr int kAddressesMax = 8;

Result<void> apply(Arguments& parsed, std::string_view flag, const std::string& value) {
  if (flag == "--config") {
    parsed.config = value;
  } else if (flag == "--listen") {
    parsed.listen = value;
  } else {
    TELEMETRYD_ASSIGN(parsed.fd, parse_descriptor(flag, value));
  }
  return {};
}

int domain_of(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 ? domain : -1;
}

// Of a listening socket; kInvalidArgument for a family that we do not serve.
Result<Listening> adopt(UniqueFd socket, const std::string& words) {
  const int family = domain_of(socket.get());
  if (family != AF_UNIX && family != AF_INET && family != AF_INET6) {
    return fail(ErrorCode::kInvalidArgument, words + " is no Unix or TCP socket");
  }
  ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
  ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
  return Listening{.socket = std::move(socket), .remote = family != AF_UNIX};
}

struct FreeAddresses {
  void operator()(addrinfo* addresses) const { ::freeaddrinfo(addresses); }
};

Result<UniqueFd> bind_one(const addrinfo& address, const std::string& words) {
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail(error_from_errno(errno, words));
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (address.ai_family == AF_INET6) {
    // Or the IPv4 address beside it could not be bound.
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  }
  if (::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return fail(error_from_errno(errno, words));
  }
  return fd;
}

}  // namespace

std::string_view usage() {
  return "usage: telemetryd-gateway [--config FILE] [--fd N | --listen PATH]\n"
         "       telemetryd-gateway --help | --version\n"
         "\n"
         "Takes events over gRPC and hands them to telemetryd. telemetryd starts this program\n"
         "itself; by hand it is of use with --listen only.\n"
         "\n"
         "  --config FILE   configuration to read instead of the default one\n"
         "  --fd N          listening Unix socket from telemetryd (3)\n"
         "  --listen PATH   bind this Unix socket, and stay when nobody sends\n"
         "\n"
         "Listening sockets from the service manager (LISTEN_FDS) come before --fd.\n";
}

Result<Arguments> parse_arguments(std::span<const char* const> arguments) {
  constexpr std::array<std::string_view, 3> kFlags = {"--config", "--fd", "--listen"};
  Arguments parsed;
  TELEMETRYD_ASSIGN(
      const CommonFlags common,
      parse_flags(arguments, kFlags, [&](std::string_view flag, const std::string& value) {
        return apply(parsed, flag, value);
      }));
  parsed.help = common.help;
  parsed.version = common.version;
  return parsed;
}

Result<std::vector<Listening>> adopt_inherited() {
  TELEMETRYD_ASSIGN(std::vector<UniqueFd> sockets, inherited_listeners(kInheritedMax));
  std::vector<Listening> listeners;
  for (UniqueFd& socket : sockets) {
    const std::string words = "LISTEN_FDS: descriptor " + std::to_string(socket.get());
    TELEMETRYD_ASSIGN(Listening listening, adopt(std::move(socket), words));
    listeners.push_back(std::move(listening));
  }
  return listeners;
}

Result<Listening> take_listener(int fd) {
  TELEMETRYD_TRY(die_with_parent());
  if (!is_listening_stream(fd) || domain_of(fd) != AF_UNIX) {
    return fail(ErrorCode::kInvalidArgument,
                "descriptor " + std::to_string(fd) +
                    " is no listening Unix socket; telemetryd starts this program itself, or see "
                    "--listen");
  }
  // A listening socket tells who made it listen. A parent that ended before this process could ask
  // to die with it has left it to another, and its successor listens elsewhere.
  ucred listener{};
  socklen_t size = sizeof listener;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &size) != 0 ||
      listener.pid != ::getppid()) {
    return fail(ErrorCode::kCancelled,
                "descriptor " + std::to_string(fd) +
                    " is not the parent's; the telemetryd that started this program has ended");
  }
  return adopt(UniqueFd(fd), "descriptor " + std::to_string(fd));
}

Result<std::vector<Listening>> listen_tcp(const std::string& host_and_port) {
  const config::HostPort parts = config::host_port_of(host_and_port);
  std::string host(parts.host);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  if (host.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[gateway] grpc_listen: " + log::quoted(host_and_port) +
                    " is not HOST:PORT, as 127.0.0.1:4320 or [::1]:4320");
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int problem = ::getaddrinfo(host.c_str(), std::string(parts.port).c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  if (problem != 0) {
    return fail(ErrorCode::kInvalidArgument,
                "[gateway] grpc_listen: " + host + ": " + ::gai_strerror(problem));
  }
  std::vector<Listening> listeners;
  for (const addrinfo* each = addresses.get(); each != nullptr; each = each->ai_next) {
    if (listeners.size() >= kAddressesMax) break;
    TELEMETRYD_ASSIGN(UniqueFd fd, bind_one(*each, "[gateway] grpc_listen: " + host_and_port));
    listeners.push_back({.socket = std::move(fd), .remote = true});
  }
  return listeners;
}

Result<bool> is_loopback(int listening) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return fail(error_from_errno(errno, "getsockname"));
  }
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
  }
  return true;
}

}  // namespace telemetryd::gateway
