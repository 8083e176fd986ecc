#include "forward/startup.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "base/flags.h"
#include "base/inherited.h"
#include "base/io.h"
#include "base/log.h"

namespace telemetryd::forward {
namespace {

Result<uid_t> parse_user(const std::string& text) {
  if (const auto number = parse_number(text)) return *number;
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(16384);
  if (::getpwnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "--peer: there is no user " + log::quoted(text));
  }
  return found->pw_uid;
}

Result<void> apply(Arguments& parsed, std::string_view flag, const std::string& value) {
  if (flag == "--config") {
    parsed.config = value;
  } else if (flag == "--listen") {
    parsed.listen = value;
  } else if (flag == "--peer") {
    TELEMETRYD_ASSIGN(parsed.peer, parse_user(value));
  } else {
    TELEMETRYD_ASSIGN(parsed.fd, parse_descriptor(flag, value));
  }
  return {};
}

Result<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().empty() || path.native().size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument, path.native() + ": not usable as a socket path");
  }
  std::memcpy(address.sun_path, path.c_str(), path.native().size());
  return address;
}

// A socket whose owner died still has its name; anything else at that place stays.
Result<void> remove_dead_socket(const std::filesystem::path& path, const sockaddr_un& address) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode)) {
    return fail(ErrorCode::kFailedPrecondition, path.native() + ": exists and is no socket");
  }
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(probe.get(), generic, sizeof address) == 0 || errno != ECONNREFUSED) {
    return fail(ErrorCode::kFailedPrecondition, path.native() + ": another forwarder listens here");
  }
  if (::unlink(path.c_str()) != 0) return fail(error_from_errno(errno, path.native()));
  return {};
}

}  // namespace

std::string_view usage() {
  return "usage: telemetryd-forward [--config FILE] [--fd N | --listen PATH] [--peer USER]\n"
         "       telemetryd-forward --help | --version\n"
         "\n"
         "Delivers what telemetryd leases to it. telemetryd starts this program itself; by hand "
         "it\n"
         "is of use with --listen only.\n"
         "\n"
         "  --config FILE   configuration to read instead of the default one\n"
         "  --fd N          connected socket to telemetryd (3)\n"
         "  --listen PATH   wait for telemetryd on this Unix socket\n"
         "  --peer USER     user name or uid telemetryd runs as, beside root and our own\n"
         "\n"
         "A listening socket from the service manager (LISTEN_FDS) comes before --fd.\n";
}

Result<Arguments> parse_arguments(std::span<const char* const> arguments) {
  constexpr std::array<std::string_view, 4> kFlags = {"--config", "--fd", "--listen", "--peer"};
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

Result<UniqueFd> inherited_listener() {
  TELEMETRYD_ASSIGN(std::vector<UniqueFd> sockets, inherited_listeners(1));
  return sockets.empty() ? UniqueFd() : std::move(sockets.front());
}

Result<UniqueFd> listen_at(const std::filesystem::path& path) {
  TELEMETRYD_ASSIGN(const sockaddr_un address, address_of(path));
  TELEMETRYD_TRY(remove_dead_socket(path, address));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail(error_from_errno(errno, "socket"));
  // The mode must hold from the first moment on, not from a chmod on.
  const mode_t old_mask = ::umask(0177);
  const int bound =
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ? errno
                                                                                         : 0;
  ::umask(old_mask);
  if (bound != 0) return fail(error_from_errno(bound, path.native()));
  if (::listen(fd.get(), 8) != 0) return fail(error_from_errno(errno, path.native()));
  return fd;
}

Result<UniqueFd> accept_daemon(int listener, std::optional<uid_t> peer) {
  for (;;) {
    UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (!fd) return fail(error_from_errno(errno, "accept"));
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) continue;
    if (credentials.uid == 0 || credentials.uid == ::geteuid() || credentials.uid == peer)
      return fd;
    log::warn("peer_refused", {{"uid", credentials.uid}});
  }
}

Result<UniqueFd> take_link(int fd) {
  // A parent that died even before this has closed its end: the first read finds end of file.
  TELEMETRYD_TRY(die_with_parent());
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
    return fail(
        ErrorCode::kInvalidArgument,
        "descriptor " + std::to_string(fd) +
            " is no link to telemetryd; telemetryd starts this program itself, or see --listen");
  }
  UniqueFd link(fd);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return link;
}

}  // namespace telemetryd::forward
