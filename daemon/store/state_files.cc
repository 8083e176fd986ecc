#include "store/state_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "store/schema.h"
#include "store/witness.h"

namespace telemetryd::store {
namespace {

constexpr std::string_view kSqliteMagic("SQLite format 3\0", 16);
constexpr std::size_t kHeaderBytes = 100;
constexpr std::size_t kUserVersionAt = 60;
constexpr std::size_t kApplicationIdAt = 68;

std::uint32_t big_endian_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    value = (value << 8) | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

Error precondition(const std::filesystem::path& path, std::string_view problem) {
  return {ErrorCode::kFailedPrecondition, path.native() + " " + std::string(problem)};
}

// Absent is fine. O_NOFOLLOW is not enough here: opening a FIFO or device could do something.
Result<bool> check_type(const std::filesystem::path& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return false;
    return fail(error_from_errno(errno, "looking at " + path.native()));
  }
  if (!S_ISREG(info.st_mode)) return fail(precondition(path, "is not a regular file"));
  if (info.st_uid != ::geteuid()) {
    return fail(precondition(
        path, "belongs to uid " + std::to_string(info.st_uid) + ", not to this daemon's user"));
  }
  if (info.st_nlink != 1) return fail(precondition(path, "has a second name (hard link)"));
  return true;
}

Result<std::string> read_start(const std::filesystem::path& path, std::size_t bytes_max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return std::string();
    return fail(error_from_errno(errno, "opening " + path.native()));
  }
  std::string content(bytes_max, '\0');
  const ssize_t got = ::pread(fd.get(), content.data(), content.size(), 0);
  if (got < 0) return fail(error_from_errno(errno, "reading " + path.native()));
  content.resize(static_cast<std::size_t>(got));
  return content;
}

bool wal_has_frames(std::string_view wal_start) {
  return wal_start.size() >= 4 && (big_endian_u32(wal_start, 0) & ~1u) == 0x377F0682u;
}

// Somebody else's file may lie at our path by mistake. Beside a witness that has seen events it is
// what is left of ours.
Result<bool> was_ours(const StateFiles& files) {
  TELEMETRYD_ASSIGN(const std::string bytes, read_start(files.witness, kWitnessBytes));
  const std::optional<Witness> witness = decode_witness(bytes);
  return witness && witness->accepted_total > 0;
}

// What the header says may be older than the WAL or the journal, so it is believed only when it
// names a stranger.
Result<void> check_header(const StateFiles& files) {
  TELEMETRYD_ASSIGN(const std::string journal, read_start(files.journal, 1));
  if (!journal.empty()) return {};
  TELEMETRYD_ASSIGN(const std::string header, read_start(files.database, kHeaderBytes));
  TELEMETRYD_ASSIGN(const std::string wal, read_start(files.wal, 4));
  if (header.empty()) {
    if (!wal_has_frames(wal)) return {};
    // Opening it would delete the log.
    return fail(ErrorCode::kDataLoss,
                files.database.native() + " is empty although its write-ahead log is not");
  }
  if (header.size() < kHeaderBytes || !header.starts_with(kSqliteMagic)) {
    if (wal_has_frames(wal)) return {};
    TELEMETRYD_ASSIGN(const bool ours, was_ours(files));
    if (ours) return fail(ErrorCode::kDataLoss, files.database.native() + " has lost its header");
    return fail(precondition(files.database, "is not an SQLite database; move it away"));
  }
  const std::uint32_t application_id = big_endian_u32(header, kApplicationIdAt);
  if (application_id == 0 && wal_has_frames(wal)) return {};
  return judge_identity(application_id, big_endian_u32(header, kUserVersionAt), files.database);
}

// " (pid 7)". Only telemetryd leaves its number, and it stays when the process has ended, so that
// one which lives is the best that can be said.
std::string holder_of(int lock) {
  std::array<char, 24> text{};
  const ssize_t got = ::pread(lock, text.data(), text.size(), 0);
  pid_t pid = 0;
  const char* const end = text.data() + std::max<ssize_t>(got, 0);
  if (std::from_chars(text.data(), end, pid).ec != std::errc() || pid <= 0) return {};
  if (::kill(pid, 0) != 0 && errno == ESRCH) return {};
  return " (pid " + std::to_string(pid) + ")";
}

}  // namespace

Result<StateLock> StateLock::take(const std::filesystem::path& state_dir) {
  const std::filesystem::path path = state_dir / "lock";
  TELEMETRYD_TRY(check_type(path));
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd && errno == EROFS) {
    return fail(ErrorCode::kUnavailable,
                state_dir.native() +
                    " lies on a file system that is mounted read-only; make it writable, or take "
                    "the events out with telemetryd-salvage --output FILE " +
                    state_dir.native());
  }
  if (!fd) return fail(error_from_errno(errno, "opening " + path.native()));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail(error_from_errno(errno, "locking " + path.native()));
    return fail(ErrorCode::kFailedPrecondition,
                state_dir.native() + " is in use by telemetryd or telemetryd-salvage" +
                    holder_of(fd.get()) + "; end that one first");
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  // The number is for people; the lock itself does not depend on it.
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    errno = 0;
  }
  return StateLock(std::move(fd));
}

StateFiles StateFiles::in(const std::filesystem::path& state_dir) {
  return {state_dir / "events.db",
          state_dir / "events.db-wal",
          state_dir / "events.db-journal",
          state_dir / "witness"};
}

Result<void> check_and_create(const StateFiles& files, const std::filesystem::path& state_dir) {
  TELEMETRYD_TRY(check_type(files.wal));
  TELEMETRYD_TRY(check_type(files.journal));
  TELEMETRYD_TRY(check_type(files.witness));
  TELEMETRYD_ASSIGN(const bool exists, check_type(files.database));
  if (!exists) {
    TELEMETRYD_ASSIGN(const std::string wal, read_start(files.wal, 4));
    if (wal_has_frames(wal)) {
      return fail(ErrorCode::kDataLoss,
                  files.database.native() + " is missing although its write-ahead log is there");
    }
    const UniqueFd fd(
        ::open(files.database.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return fail(error_from_errno(errno, "creating " + files.database.native()));
    return sync_directory(state_dir);
  }
  return check_header(files);
}

Result<void> judge_identity(std::uint32_t application_id,
                            std::uint32_t user_version,
                            const std::filesystem::path& where) {
  if (application_id != kApplicationId) {
    return fail(precondition(
        where, "is a database of another program; it was left untouched. Move it away"));
  }
  if (user_version > kUserVersion) {
    return fail(precondition(where,
                             "was written by a newer telemetryd (format " +
                                 std::to_string(user_version) + ", this one knows " +
                                 std::to_string(kUserVersion) +
                                 "); it was left untouched. Install that version again, or take "
                                 "the events out with telemetryd-salvage --output FILE " +
                                 where.parent_path().native()));
  }
  return {};
}

}  // namespace telemetryd::store
