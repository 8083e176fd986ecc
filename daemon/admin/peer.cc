#include "admin/peer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "base/io.h"

namespace telemetryd::admin {
namespace {

constexpr std::size_t kEntryBytesMax = 1u << 20;
constexpr int kGroupsMax = 65536;

// getpwuid_r and its like want a buffer whose size nobody knows.
template <typename Entry, typename Lookup>
bool look_up(Entry& entry, std::vector<char>& buffer, Lookup lookup) {
  for (buffer.resize(4096); buffer.size() <= kEntryBytesMax; buffer.resize(buffer.size() * 4)) {
    Entry* found = nullptr;
    const int error = lookup(&entry, buffer.data(), buffer.size(), &found);
    if (error != ERANGE) return error == 0 && found != nullptr;
  }
  return false;
}

bool is_member(uid_t uid, gid_t wanted) {
  passwd user{};
  std::vector<char> buffer;
  if (!look_up(user, buffer, [&](passwd* entry, char* text, std::size_t size, passwd** found) {
        return getpwuid_r(uid, entry, text, size, found);
      })) {
    return false;
  }
  std::vector<gid_t> groups(64);
  for (;;) {
    int count = static_cast<int>(groups.size());
    if (getgrouplist(user.pw_name, user.pw_gid, groups.data(), &count) >= 0) {
      groups.resize(static_cast<std::size_t>(count));
      break;
    }
    if (count <= static_cast<int>(groups.size()) || count > kGroupsMax) return false;
    groups.resize(static_cast<std::size_t>(count));
  }
  return std::ranges::find(groups, wanted) != groups.end();
}

}  // namespace

bool is_admin(std::uint32_t uid, const std::string& group) {
  if (uid == 0 || uid == geteuid()) return true;
  if (group.empty()) return false;
  ::group entry{};
  std::vector<char> buffer;
  const bool exists =
      look_up(entry, buffer, [&](::group* out, char* text, std::size_t size, ::group** found) {
        return getgrnam_r(group.c_str(), out, text, size, found);
      });
  return exists && is_member(uid, entry.gr_gid);
}

Result<Peer> peer_of(int fd, const std::string& admin_group) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail(error_from_errno(errno, "peer credentials"));
  }
  return Peer{.uid = credentials.uid,
              .pid = credentials.pid,
              .admin = is_admin(credentials.uid, admin_group)};
}

}  // namespace telemetryd::admin
