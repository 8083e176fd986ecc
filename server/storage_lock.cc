#include "server/storage_lock.h"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <thread>

#include "base/io.h"

namespace telemetryd::server {
namespace {

constexpr std::chrono::milliseconds kRetryDelay{20};
constexpr int kRetriesMax = 500;

std::string held_message(const std::filesystem::path& database, StorageLock::Kind kind) {
  if (kind == StorageLock::Kind::kServe) {
    return "another telemetry-server already serves " + database.native() +
           "; stop it, or give this one a database of its own";
  }
  return database.native() + " is being written by another process; try again";
}

}  // namespace

Result<StorageLock> StorageLock::try_take(const std::filesystem::path& database, Kind kind) {
  const std::string path = database.native() + ".lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail(error_from_errno(errno, path));
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = kind == Kind::kServe ? 0 : 1;
  range.l_len = 1;
  if (::fcntl(fd.get(), F_OFD_SETLK, &range) != 0) {
    if (errno != EAGAIN && errno != EACCES) return fail(error_from_errno(errno, path));
    return fail(ErrorCode::kUnavailable, held_message(database, kind));
  }
  return StorageLock(std::move(fd));
}

Result<StorageLock> StorageLock::take(const std::filesystem::path& database, Kind kind) {
  auto lock = try_take(database, kind);
  // A server stays for days; waiting for one makes no sense.
  if (kind == Kind::kServe) return lock;
  for (int i = 0; !lock && lock.error().code() == ErrorCode::kUnavailable && i < kRetriesMax; ++i) {
    std::this_thread::sleep_for(kRetryDelay);
    lock = try_take(database, kind);
  }
  return lock;
}

}  // namespace telemetryd::server
