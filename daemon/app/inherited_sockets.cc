#include "app/inherited_sockets.h"

#include <cstdlib>
#include <fcntl.h>
#include <sstream>
#include <unistd.h>

#include "base/log.h"

namespace telemetryd::app {
namespace {

constexpr int kFirstFd = 3;
constexpr int kFdsMax = 16;

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  std::string text = value == nullptr ? "" : value;
  ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
  return text;
}

}  // namespace

InheritedSockets InheritedSockets::from_environment() {
  InheritedSockets inherited;
  const std::string pid = take_variable("LISTEN_PID");
  const std::string count_text = take_variable("LISTEN_FDS");
  std::istringstream names(take_variable("LISTEN_FDNAMES"));
  if (pid != std::to_string(::getpid())) return inherited;

  int count = 0;
  while (count <= kFdsMax && std::to_string(count) != count_text) ++count;
  if (count > kFdsMax) {
    log::warn("inherited_sockets_ignored", {{"listen_fds", count_text}});
    return inherited;
  }
  for (int fd = kFirstFd; fd < kFirstFd + count; ++fd) {
    std::string name;
    std::getline(names, name, ':');
    UniqueFd socket(fd);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (name == "ingest" || name == "admin") {
      inherited.sockets_[name] = std::move(socket);
    } else {
      log::warn("inherited_socket_closed", {{"name", name}, {"known", "ingest admin"}});
    }
  }
  return inherited;
}

UniqueFd InheritedSockets::take(const std::string& name) {
  const auto found = sockets_.find(name);
  return found == sockets_.end() ? UniqueFd() : std::move(found->second);
}

}  // namespace telemetryd::app
