#include "gateway/connections.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utility>

#include "base/io.h"

namespace telemetryd::gateway {

Result<std::unique_ptr<Connections>> Connections::create(loop::Loop& loop) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail(error_from_errno(errno, "epoll_create1"));
  return std::unique_ptr<Connections>(new Connections(loop, std::move(epoll)));
}

Connections::Connections(loop::Loop& loop, UniqueFd epoll)
    : epoll_(std::move(epoll)), poll_(loop, epoll_.get(), [this] { collect(); }) {
  poll_.start(loop::Poll::Until::kReadable);
}

Connections::~Connections() = default;

bool Connections::add(std::uint32_t uid, int fd) {
  if (count() >= kMax || count(uid) >= kPerUidMax) return false;
  UniqueFd duplicate(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate) return false;
  // No event is asked for: a hang-up is always told.
  epoll_event event{.events = 0, .data = {.u64 = next_}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, duplicate.get(), &event) != 0) return false;
  watched_.emplace(next_++, Watched{.uid = uid, .fd = std::move(duplicate)});
  return true;
}

std::size_t Connections::count(std::uint32_t uid) const {
  std::size_t count = 0;
  for (const auto& [id, watched] : watched_) count += watched.uid == uid ? 1 : 0;
  return count;
}

std::size_t Connections::shut(std::uint32_t uid) {
  std::size_t shut = 0;
  for (const auto& [id, watched] : watched_) {
    if (watched.uid == uid && ::shutdown(watched.fd.get(), SHUT_RDWR) == 0) ++shut;
  }
  return shut;
}

void Connections::collect() {
  std::array<epoll_event, 64> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const auto gone = watched_.find(events[static_cast<std::size_t>(i)].data.u64);
    if (gone == watched_.end()) continue;
    // gRPC's own descriptor keeps the connection in the epoll set, so closing ours is not enough.
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, gone->second.fd.get(), nullptr);
    watched_.erase(gone);
  }
}

}  // namespace telemetryd::gateway
