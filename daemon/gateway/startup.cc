#include "gateway/startup.h"

#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <optional>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "config/address.h"

namespace telemetryd::gateway {
namespace {

constexpr int kFirstInheritedFd = 3;
constexpr unsigned kInheritedMax = 16;
constexpr int kBacklog = 128;
constexpr int kAddressesMax = 8;

std::optional<unsigned> parse_number(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return number;
}

Result<void> apply(Arguments& parsed, std::string_view flag, const std::string& value) {
  if (flag == "--config") {
    parsed.config = value;
  } else if (flag == "--listen") {
    parsed.listen = value;
  } else {
    const auto number = parse_number(value);
    if (!number || *number > 1'000'000) {
      return fail(ErrorCode::kInvalidArgument, "--fd: not a descriptor: " + log::quoted(value));
    }
    parsed.fd = static_cast<int>(*number);
  }
  return {};
}

int option_of(int fd, int option) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

// Takes `fd` when it is a listening stream socket of a family that we serve.
std::optional<Listening> adopt(int fd) {
  if (option_of(fd, SO_TYPE) != SOCK_STREAM || option_of(fd, SO_ACCEPTCONN) != 1) {
    return std::nullopt;
  }
  const int family = option_of(fd, SO_DOMAIN);
  if (family != AF_UNIX && family != AF_INET && family != AF_INET6) return std::nullopt;
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return Listening{.socket = UniqueFd(fd), .remote = family != AF_UNIX};
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
  Arguments parsed;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    std::string flag = arguments[i];
    if (flag == "--help" || flag == "-h") {
      parsed.help = true;
      continue;
    }
    if (flag == "--version") {
      parsed.version = true;
      continue;
    }
    std::optional<std::string> value;
    if (const std::size_t equals = flag.find('='); equals != std::string::npos) {
      value = flag.substr(equals + 1);
      flag.resize(equals);
    }
    if (flag != "--config" && flag != "--fd" && flag != "--listen") {
      return fail(ErrorCode::kInvalidArgument, "unknown argument " + log::quoted(flag));
    }
    if (!value && i + 1 < arguments.size()) value = arguments[++i];
    if (!value || value->empty()) {
      return fail(ErrorCode::kInvalidArgument, flag + " needs a value");
    }
    TELEMETRYD_TRY(apply(parsed, flag, *value));
  }
  return parsed;
}

Result<std::vector<Listening>> inherited_listeners() {
  std::vector<Listening> listeners;
  const char* const pid = std::getenv("LISTEN_PID");         // NOLINT(concurrency-mt-unsafe)
  const char* const count_text = std::getenv("LISTEN_FDS");  // NOLINT(concurrency-mt-unsafe)
  if (pid == nullptr || count_text == nullptr) return listeners;
  if (parse_number(pid) != static_cast<unsigned>(::getpid())) return listeners;
  const auto count = parse_number(count_text);
  if (!count || *count == 0 || *count > kInheritedMax) {
    return fail(ErrorCode::kInvalidArgument,
                "LISTEN_FDS: expected 1 to " + std::to_string(kInheritedMax) + " sockets");
  }
  ::unsetenv("LISTEN_PID");  // NOLINT(concurrency-mt-unsafe)
  ::unsetenv("LISTEN_FDS");  // NOLINT(concurrency-mt-unsafe)
  for (int fd = kFirstInheritedFd; fd < kFirstInheritedFd + static_cast<int>(*count); ++fd) {
    auto listening = adopt(fd);
    if (!listening) {
      return fail(
          ErrorCode::kInvalidArgument,
          "LISTEN_FDS: descriptor " + std::to_string(fd) + " is no listening Unix or TCP socket");
    }
    listeners.push_back(std::move(*listening));
  }
  return listeners;
}

Result<Listening> take_listener(int fd) {
  const pid_t parent = ::getppid();
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail(error_from_errno(errno, "prctl"));
  // A parent that died before the call above sends no signal any more.
  if (parent != ::getppid()) return fail(ErrorCode::kCancelled, "the parent has ended");
  auto listening = adopt(fd);
  if (!listening || listening->remote) {
    return fail(ErrorCode::kInvalidArgument,
                "descriptor " + std::to_string(fd) +
                    " is no listening Unix socket; telemetryd starts this program itself, or see "
                    "--listen");
  }
  return std::move(*listening);
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
