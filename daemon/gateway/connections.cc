#include "gateway/connections.h"

#include <algorithm>
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
#include "gateway/startup.h"

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

std::string address_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address).sin_addr;
    return {reinterpret_cast<const char*>(&v4), sizeof v4};
  }
  if (address.ss_family != AF_INET6) return {};
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  const auto* const bytes = reinterpret_cast<const char*>(v6.s6_addr);
  constexpr std::size_t kNetworkBytes = 8;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return {bytes + 12, 4};
  return {bytes, kNetworkBytes};
}

Result<std::unique_ptr<Connections>> Connections::create(
    loop::Loop& loop, const Clock& clock, std::chrono::milliseconds first_call_deadline) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail(error_from_errno(errno, "epoll_create1"));
  return std::unique_ptr<Connections>(
      new Connections(loop, clock, first_call_deadline, std::move(epoll)));
}

Connections::Connections(loop::Loop& loop,
                         const Clock& clock,
                         std::chrono::milliseconds deadline,
                         UniqueFd epoll)
    : clock_(clock),
      first_call_deadline_(deadline),
      epoll_(std::move(epoll)),
      poll_(loop, epoll_.get(), [this] { collect(); }),
      deadline_(loop, [this] { on_deadline(); }) {
  poll_.start(loop::Poll::Until::kReadable);
}

Connections::~Connections() = default;

bool Connections::add(std::uint32_t uid, int fd) {
  const std::string address = uid == kRemoteUid ? address_of(fd) : std::string();
  if (!make_room(uid, address)) return false;
  UniqueFd duplicate(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate) return false;
  // No event is asked for: a hang-up is always told.
  epoll_event event{.events = 0, .data = {.u64 = next_}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, duplicate.get(), &event) != 0) return false;
  watched_.emplace(next_++,
                   Watched{.uid = uid,
                           .peer = peer_of(fd),
                           .address = address,
                           .since = clock_.boot_ms(),
                           .proven = uid != kRemoteUid,
                           .fd = std::move(duplicate)});
  arm_deadline();
  return true;
}

bool Connections::make_room(std::uint32_t uid, const std::string& address) {
  if (uid != kRemoteUid) {
    return count(uid) < kPerUidMax && (count() < kMax || shut_unproven(""));
  }
  const auto strangers = std::ranges::count_if(watched_, [&](const auto& each) {
    return !each.second.proven && each.second.address == address;
  });
  // Others behind the same address get a chance to show who they are.
  if (static_cast<std::size_t>(strangers) >= kUnprovenPerAddressMax) return shut_unproven(address);
  return (count(uid) < kRemoteMax && count() < kMax) || shut_unproven("");
}

Connections::Watches::iterator Connections::oldest_unproven(const std::string& address) {
  return std::ranges::find_if(watched_, [&](const auto& each) {
    return !each.second.proven && (address.empty() || each.second.address == address);
  });
}

bool Connections::shut_unproven(const std::string& address) {
  const auto oldest = oldest_unproven(address);
  if (oldest == watched_.end()) return false;
  ::shutdown(oldest->second.fd.get(), SHUT_RDWR);
  forget(oldest);
  return true;
}

void Connections::prove(const std::string& peer) {
  for (auto& [id, watched] : watched_) {
    if (watched.uid == kRemoteUid && watched.peer == peer) watched.proven = true;
  }
}

void Connections::arm_deadline() {
  if (deadline_.active()) return;
  const auto oldest = oldest_unproven("");
  if (oldest == watched_.end()) return;
  const std::chrono::milliseconds waited(clock_.boot_ms() - oldest->second.since);
  deadline_.start_once(std::max(first_call_deadline_ - waited, std::chrono::milliseconds(1)));
}

void Connections::on_deadline() {
  const BootMs now = clock_.boot_ms();
  for (auto each = watched_.begin(); each != watched_.end();) {
    const bool late = now - each->second.since >= first_call_deadline_.count();
    if (each->second.proven || !late) {
      ++each;
      continue;
    }
    ::shutdown(each->second.fd.get(), SHUT_RDWR);
    each = forget(each);
  }
  arm_deadline();
}

std::size_t Connections::count(std::uint32_t uid, const std::string& peer) const {
  return static_cast<std::size_t>(std::ranges::count_if(watched_, [&](const auto& each) {
    return each.second.uid == uid && (peer.empty() || each.second.peer == peer);
  }));
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
    forget(gone);
  }
}

// gRPC's own descriptor keeps the connection in the epoll set, so closing ours is not enough.
Connections::Watches::iterator Connections::forget(Watches::iterator each) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, each->second.fd.get(), nullptr);
  return watched_.erase(each);
}

}  // namespace telemetryd::gateway
