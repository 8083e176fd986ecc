// forward/startup.h: the command line, and the ways in which a daemon reaches the forwarder.
//
// As a child it finds its link on a descriptor and dies with its parent, so that an orphan never
// delivers beside a new one. As a service it takes the listening socket that the service manager
// hands over, or one it binds itself, and serves one daemon after the other.
//
// Thread:  the only one.
// Fails:   kInvalidArgument for the command line, kPermissionDenied for a peer that is nobody we
//          serve.

#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::forward {

struct Arguments {
  std::filesystem::path config;
  int fd = 3;
  std::filesystem::path listen;
  std::optional<uid_t> peer;
  bool help = false;
  bool version = false;
};

[[nodiscard]] Result<Arguments> parse_arguments(std::span<const char* const> arguments);
std::string_view usage();

// The socket handed over by the service manager (LISTEN_PID, LISTEN_FDS); empty when there is none.
[[nodiscard]] Result<UniqueFd> inherited_listener();

// Binds `path` with mode 0600, replacing a socket that nobody answers on.
[[nodiscard]] Result<UniqueFd> listen_at(const std::filesystem::path& path);

// Waits for a daemon whose uid is ours, root's or `peer`; turns others away and waits on.
[[nodiscard]] Result<UniqueFd> accept_daemon(int listener, std::optional<uid_t> peer);

// Checks that `fd` is a connected stream socket and ties our life to the parent's.
[[nodiscard]] Result<UniqueFd> take_link(int fd);

}  // namespace telemetryd::forward
