#include "base/inherited.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/flags.h"
#include "base/io.h"

namespace telemetryd {
namespace {

constexpr int kFirstInheritedFd = 3;

int option_of(int fd, int option) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

}  // namespace

Result<std::vector<UniqueFd>> inherited_listeners(unsigned count_max) {
  std::vector<UniqueFd> listeners;
  const char* const pid = std::getenv("LISTEN_PID");         // NOLINT(concurrency-mt-unsafe)
  const char* const count_text = std::getenv("LISTEN_FDS");  // NOLINT(concurrency-mt-unsafe)
  if (pid == nullptr || count_text == nullptr) return listeners;
  if (parse_number(pid) != static_cast<unsigned>(::getpid())) return listeners;
  const auto count = parse_number(count_text);
  if (!count || *count == 0 || *count > count_max) {
    return fail(ErrorCode::kInvalidArgument,
                count_max == 1
                    ? std::string("LISTEN_FDS: expected exactly one socket")
                    : "LISTEN_FDS: expected 1 to " + std::to_string(count_max) + " sockets");
  }
  ::unsetenv("LISTEN_PID");  // NOLINT(concurrency-mt-unsafe)
  ::unsetenv("LISTEN_FDS");  // NOLINT(concurrency-mt-unsafe)
  for (int fd = kFirstInheritedFd; fd < kFirstInheritedFd + static_cast<int>(*count); ++fd) {
    if (!is_listening_stream(fd)) {
      return fail(ErrorCode::kInvalidArgument,
                  "LISTEN_FDS: descriptor " + std::to_string(fd) + " is no listening socket");
    }
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    listeners.emplace_back(fd);
  }
  return listeners;
}

bool is_listening_stream(int fd) {
  return option_of(fd, SO_TYPE) == SOCK_STREAM && option_of(fd, SO_ACCEPTCONN) == 1;
}

Result<void> die_with_parent() {
  const pid_t parent = ::getppid();
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail(error_from_errno(errno, "prctl"));
  // A parent that died before the call above sends no signal any more.
  if (parent != ::getppid()) return fail(ErrorCode::kCancelled, "the parent has ended");
  return {};
}

}  // namespace telemetryd
