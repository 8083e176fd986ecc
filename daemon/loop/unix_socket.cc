#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/bytes.h"
#include "base/io.h"
#include "loop/loop.h"

namespace telemetryd::loop {
namespace {

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.front() != '/') {
    return fail(ErrorCode::kInvalidArgument, "socket path '" + path + "' is not absolute");
  }
  if (path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument,
                path + ": longer than the " + std::to_string(sizeof address.sun_path - 1) +
                    " bytes a socket's path may have");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Result<UniqueFd> new_socket(int flags) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) return fail(error_from_errno(errno, "socket"));
  return fd;
}

// Whoever may write in the folder decides who answers at the path, so it has to be trusted first.
Result<UniqueFd> open_folder(const std::string& folder) {
  // Not O_DIRECTORY, so that a link can be told from what is missing.
  UniqueFd fd(::open(folder.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail(error_from_errno(errno, folder));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail(error_from_errno(errno, folder));
  if (S_ISLNK(info.st_mode)) {
    return fail(ErrorCode::kPermissionDenied,
                folder + ": is a symbolic link, which can be turned elsewhere; name the folder");
  }
  if (!S_ISDIR(info.st_mode))
    return fail(ErrorCode::kFailedPrecondition, folder + ": is no folder");
  if (info.st_uid != ::geteuid() && info.st_uid != 0) {
    return fail(ErrorCode::kPermissionDenied,
                folder + ": belongs to uid " + std::to_string(info.st_uid) +
                    ", who could put another socket in our place");
  }
  if ((info.st_mode & S_IWOTH) != 0 && (info.st_mode & S_ISVTX) == 0) {
    return fail(ErrorCode::kPermissionDenied,
                folder + ": everybody may write there (and it is not sticky)");
  }
  return fd;
}

// Passes when `name` is free or a socket of ours that nobody answers.
Result<void> check_replaceable(int folder, const std::string& name, const std::string& path) {
  struct stat info{};
  if (::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return fail(error_from_errno(errno, path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return fail(ErrorCode::kFailedPrecondition, path + ": is there and is not a socket");
  }
  if (info.st_uid != ::geteuid()) {
    return fail(ErrorCode::kFailedPrecondition,
                path + ": is a socket of uid " + std::to_string(info.st_uid) + ", not ours");
  }
  TELEMETRYD_ASSIGN(const sockaddr_un address, address_of(path));
  TELEMETRYD_ASSIGN(const UniqueFd probe, new_socket(SOCK_NONBLOCK));
  if (::connect(probe.get(), generic(address), sizeof address) == 0 || errno == EAGAIN) {
    return fail(ErrorCode::kFailedPrecondition, path + ": another process is listening there");
  }
  if (errno != ECONNREFUSED && errno != ENOENT) return fail(error_from_errno(errno, path));
  return {};
}

// Removes the temporary name unless the rename took it away.
class TemporaryName {
 public:
  TemporaryName(int folder, std::string name) : folder_(folder), name_(std::move(name)) {}

  ~TemporaryName() {
    if (!name_.empty()) ::unlinkat(folder_, name_.c_str(), 0);
  }

  TemporaryName(const TemporaryName&) = delete;
  TemporaryName& operator=(const TemporaryName&) = delete;

  Result<void> rename_to(const std::string& name, const std::string& path) {
    if (::renameat(folder_, name_.c_str(), folder_, name.c_str()) != 0) {
      return fail(error_from_errno(errno, path));
    }
    name_.clear();
    return {};
  }

 private:
  int folder_;
  std::string name_;
};

}  // namespace

Result<UniqueFd> listen_unix(const std::string& path, unsigned mode, int backlog) {
  TELEMETRYD_ASSIGN(const sockaddr_un final_address, address_of(path));
  static_cast<void>(final_address);
  const std::size_t slash = path.rfind('/');
  const std::string folder_path = slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = path.substr(slash + 1);
  if (name.empty()) return fail(ErrorCode::kInvalidArgument, path + ": names a folder");
  TELEMETRYD_ASSIGN(const UniqueFd folder, open_folder(folder_path));
  TELEMETRYD_TRY(check_replaceable(folder.get(), name, path));

  // Ready to serve before it has its name: nobody meets a socket with the wrong mode or without a
  // listener. The temporary name is short so that a path at the limit still works.
  const std::string temporary = "." + to_hex(random_bytes16()).substr(0, 6);
  TELEMETRYD_ASSIGN(const sockaddr_un address, address_of(folder_path + "/" + temporary));
  TELEMETRYD_ASSIGN(UniqueFd fd, new_socket(SOCK_NONBLOCK));
  if (::bind(fd.get(), generic(address), sizeof address) != 0) {
    return fail(error_from_errno(errno, path));
  }
  TemporaryName bound(folder.get(), temporary);
  if (::fchmodat(folder.get(), temporary.c_str(), static_cast<mode_t>(mode), 0) != 0) {
    return fail(error_from_errno(errno, path));
  }
  if (::listen(fd.get(), backlog) != 0) return fail(error_from_errno(errno, path));
  TELEMETRYD_TRY(bound.rename_to(name, path));
  return fd;
}

Result<UniqueFd> connect_unix(const std::string& path) {
  TELEMETRYD_ASSIGN(const sockaddr_un address, address_of(path));
  TELEMETRYD_ASSIGN(UniqueFd fd, new_socket(SOCK_NONBLOCK));
  if (::connect(fd.get(), generic(address), sizeof address) == 0) return fd;
  if (errno == EAGAIN) {
    return fail(ErrorCode::kUnavailable, path + ": too many connections wait to be accepted");
  }
  return fail(error_from_errno(errno, path));
}

}  // namespace telemetryd::loop
