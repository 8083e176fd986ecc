#include "forward/routes.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <span>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/io.h"

namespace telemetryd::forward {
namespace {

// The largest datagram that the kernel makes of a dump.
constexpr std::size_t kDatagramBytesMax = 64u << 10;
constexpr int kChangesAtOnceMax = 1024;

Result<UniqueFd> netlink(unsigned groups) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd) return fail(error_from_errno(errno, "netlink"));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(error_from_errno(errno, "netlink"));
  }
  return fd;
}

bool ask_for_routes(int fd, int family) {
  struct {
    nlmsghdr header;
    rtmsg route;
  } question{};

  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = RTM_GETROUTE;
  question.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  question.route.rtm_family = static_cast<unsigned char>(family);
  return ::send(fd, &question, sizeof question, 0) == static_cast<ssize_t>(sizeof question);
}

bool is_link_local(const rtmsg& route, const unsigned char* destination) {
  if (destination == nullptr) return false;
  if (route.rtm_family == AF_INET) return destination[0] == 169 && destination[1] == 254;
  return destination[0] == 0xfe && (destination[1] & 0xc0) == 0x80;
}

// Of one entry of the dump.
bool leads_out(const nlmsghdr& message) {
  rtmsg route{};
  if (message.nlmsg_type != RTM_NEWROUTE || message.nlmsg_len < NLMSG_LENGTH(sizeof route)) {
    return false;
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(&message);
  std::memcpy(&route, bytes + NLMSG_HDRLEN, sizeof route);
  const bool dead = (route.rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) != 0;
  if (route.rtm_type != RTN_UNICAST || route.rtm_table == RT_TABLE_LOCAL || dead) return false;

  std::size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof route);
  while (at + sizeof(rtattr) <= message.nlmsg_len) {
    rtattr attribute{};
    std::memcpy(&attribute, bytes + at, sizeof attribute);
    const std::size_t length = attribute.rta_len;
    if (length < sizeof attribute || at + length > message.nlmsg_len) return false;
    const unsigned char* value = bytes + at + RTA_LENGTH(0);
    const std::size_t size = length - RTA_LENGTH(0);
    if (attribute.rta_type == RTA_DST && size >= 4 && is_link_local(route, value)) return false;
    if (attribute.rta_type == RTA_OIF && size == sizeof(unsigned)) {
      unsigned interface = 0;
      std::memcpy(&interface, value, sizeof interface);
      if (interface == ::if_nametoindex("lo")) return false;
    }
    at += RTA_ALIGN(length);
  }
  return true;
}

enum class Found { kYes, kNotYet, kNo, kUnknown };

Found look_through(std::span<const unsigned char> datagram) {
  for (std::size_t at = 0; at + sizeof(nlmsghdr) <= datagram.size();) {
    nlmsghdr header{};
    std::memcpy(&header, datagram.data() + at, sizeof header);
    if (header.nlmsg_len < sizeof header || at + header.nlmsg_len > datagram.size()) break;
    if (header.nlmsg_type == NLMSG_DONE) return Found::kNo;
    if (header.nlmsg_type == NLMSG_ERROR) return Found::kUnknown;
    if (leads_out(*reinterpret_cast<const nlmsghdr*>(datagram.data() + at))) return Found::kYes;
    at += NLMSG_ALIGN(header.nlmsg_len);
  }
  return Found::kNotYet;
}

// A machine may have a million routes; nobody reads on behind the first that will do.
Found way_out_of(int family) {
  const auto fd = netlink(0);
  if (!fd || !ask_for_routes(fd->get(), family)) return Found::kUnknown;
  alignas(nlmsghdr) std::array<unsigned char, kDatagramBytesMax> datagram;
  for (;;) {
    // The kernel answers while it is asked: what is not there now does not come.
    const ssize_t got = ::recv(fd->get(), datagram.data(), datagram.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Found::kUnknown;
    const Found found = look_through({datagram.data(), static_cast<std::size_t>(got)});
    if (found != Found::kNotYet) return found;
  }
}

}  // namespace

Result<Routes> Routes::open() {
  TELEMETRYD_ASSIGN(UniqueFd fd, netlink(RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE));
  return Routes(std::move(fd));
}

bool Routes::take_changes() {
  // What is cut off was not to be read anyway.
  alignas(nlmsghdr) std::array<unsigned char, 4096> message;
  bool any = false;
  for (int i = 0; i < kChangesAtOnceMax; ++i) {
    const ssize_t got = ::recv(fd_.get(), message.data(), message.size(), 0);
    // More than the kernel keeps for us are changes, too.
    const bool overrun = got < 0 && errno == ENOBUFS;
    if (got < 0 && errno != EINTR && !overrun) break;
    any = any || got > 0 || overrun;
  }
  return any;
}

std::optional<bool> Routes::way_out() {
  const Found ipv4 = way_out_of(AF_INET);
  if (ipv4 == Found::kYes) return true;
  const Found ipv6 = way_out_of(AF_INET6);
  if (ipv6 == Found::kYes) return true;
  if (ipv4 == Found::kUnknown || ipv6 == Found::kUnknown) return std::nullopt;
  return false;
}

}  // namespace telemetryd::forward
