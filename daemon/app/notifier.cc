#include "app/notifier.h"

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

namespace telemetryd::app {
namespace {

// Before there are threads.
std::string take_variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  std::string text = value == nullptr ? "" : value;
  ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
  return text;
}

std::int64_t number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

}  // namespace

Notifier::Notifier() : address_(take_variable("NOTIFY_SOCKET")) {
  const std::int64_t interval = number(take_variable("WATCHDOG_USEC"));
  const std::string pid = take_variable("WATCHDOG_PID");
  const bool ours = pid.empty() || number(pid) == ::getpid();
  if (ours && interval > 0) watchdog_ = std::chrono::microseconds(interval);
  if (address_.empty() || (address_[0] != '/' && address_[0] != '@') ||
      address_.size() >= sizeof(sockaddr_un::sun_path)) {
    address_.clear();
    return;
  }
  fd_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void Notifier::send(std::string_view lines) {
  if (!fd_) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address_.data(), address_.size());
  // An abstract name is written with @ and sent with a zero byte.
  if (address_[0] == '@') to.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  // Whether the service manager hears it is its business; there is nothing we could do.
  (void)::sendto(fd_.get(),
                 lines.data(),
                 lines.size(),
                 MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&to),
                 size);
}

void Notifier::ready(std::string_view status) {
  send(fmt::format("READY=1\nSTATUS={}\n", status));
}

void Notifier::reloading() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\n",
                   std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000));
}

void Notifier::stopping() {
  send("STOPPING=1\nSTATUS=Stopping\n");
}

void Notifier::watchdog_ping() {
  send("WATCHDOG=1\n");
}

void Notifier::watchdog_interval(std::chrono::microseconds interval) {
  send(fmt::format("WATCHDOG_USEC={}\n", interval.count()));
}

}  // namespace telemetryd::app
