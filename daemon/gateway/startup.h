// gateway/startup.h: the command line, and the sockets on which the gateway is reached.
//
// The service manager's sockets come before the one of telemetryd, and that before one bound by
// hand. As telemetryd's child it dies with its parent, so that two never listen on one socket.
//
// Thread:  the only one, before there are others.
// Fails:   kInvalidArgument for the command line and the configuration, with what would be right.

#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "config/config.h"

namespace telemetryd::gateway {

// peer_uid of events from another machine.
constexpr std::uint32_t kRemoteUid = 4294967295;

inline constexpr std::string_view kVersion = TELEMETRYD_VERSION;

struct Arguments {
  std::filesystem::path config;
  int fd = 3;
  std::filesystem::path listen;
  bool help = false;
  bool version = false;
};

[[nodiscard]] Result<Arguments> parse_arguments(std::span<const char* const> arguments);
std::string_view usage();

struct Listening {
  UniqueFd socket;
  bool remote = false;  // AF_INET or AF_INET6
};

// Those handed over by the service manager (LISTEN_PID, LISTEN_FDS); none when there are none.
[[nodiscard]] Result<std::vector<Listening>> adopt_inherited();

// The listening socket that telemetryd passed as `fd`; ties our life to the parent's.
[[nodiscard]] Result<Listening> take_listener(int fd);

// Binds every address that "HOST:PORT" stands for.
[[nodiscard]] Result<std::vector<Listening>> listen_tcp(const std::string& host_and_port);

// Whether only this machine reaches a listening socket.
[[nodiscard]] Result<bool> is_loopback(int listening);

}  // namespace telemetryd::gateway
