#include "gateway/connections.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utility>

#include "base/io.h"

namespace telemetryd::gateway {

std::string peer_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return "ipv4:" + std::string(text.data()) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  if (address.ss_family != AF_INET6) return {};
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  const std::string port = std::to_string(ntohs(v6.sin6_port));
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    ::inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text.data(), text.size());
    return "ipv4:" + std::string(text.data()) + ":" + port;
  }
  ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return "ipv6:%5B" + std::string(text.data()) + "%5D:" + port;
}

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
  watched_.emplace(next_++, Watched{.uid = uid, .peer = peer_of(fd), .fd = std::move(duplicate)});
  return true;
}

std::size_t Connections::count(std::uint32_t uid) const {
  std::size_t count = 0;
  for (const auto& [id, watched] : watched_) count += watched.uid == uid ? 1 : 0;
  return count;
}

std::size_t Connections::shut(std::uint32_t uid, const std::string& peer) {
  std::size_t shut = 0;
  for (const auto& [id, watched] : watched_) {
    if (watched.uid != uid || (!peer.empty() && watched.peer != peer)) continue;
    if (::shutdown(watched.fd.get(), SHUT_RDWR) == 0) ++shut;
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
