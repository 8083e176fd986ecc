#include "base/io.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "base/unique_fd.h"

namespace telemetryd {
namespace {

Result<void> write_all(int fd, std::string_view content, std::string_view what) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return fail(error_from_errno(errno, what));
    }
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Error error_from_errno(int errno_value, std::string_view what) {
  ErrorCode code = ErrorCode::kUnavailable;
  if (errno_value == ENOENT) code = ErrorCode::kNotFound;
  if (errno_value == EACCES || errno_value == EPERM) code = ErrorCode::kPermissionDenied;
  if (errno_value == ENOSPC || errno_value == EDQUOT || errno_value == EMFILE) {
    code = ErrorCode::kResourceExhausted;
  }
  return {code, std::string(what) + ": " + std::generic_category().message(errno_value)};
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t bytes_max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(error_from_errno(errno, path.native()));
  std::string content;
  for (;;) {
    const std::size_t old_size = content.size();
    if (old_size > bytes_max) {
      return fail(ErrorCode::kResourceExhausted,
                  path.native() + ": larger than " + std::to_string(bytes_max) + " bytes");
    }
    content.resize(old_size + 4096);
    const ssize_t got = ::read(fd.get(), content.data() + old_size, 4096);
    if (got < 0 && errno == EINTR) {
      content.resize(old_size);
      continue;
    }
    if (got < 0) return fail(error_from_errno(errno, path.native()));
    content.resize(old_size + static_cast<std::size_t>(got));
    if (got == 0) return content;
  }
}

Result<void> replace_file(const std::filesystem::path& path,
                          std::string_view content,
                          mode_t mode) {
  const std::string temporary = path.native() + ".new";
  {
    const UniqueFd fd(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!fd) return fail(error_from_errno(errno, temporary));
    if (::fchmod(fd.get(), mode) != 0) return fail(error_from_errno(errno, temporary));
    TELEMETRYD_TRY(write_all(fd.get(), content, temporary));
    if (::fsync(fd.get()) != 0) return fail(error_from_errno(errno, temporary));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return fail(error_from_errno(errno, path.native()));
  }
  return sync_directory(path.parent_path());
}

Result<void> sync_directory(const std::filesystem::path& path) {
  const std::string name = path.empty() ? "." : path.native();
  const UniqueFd fd(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail(error_from_errno(errno, name));
  if (::fsync(fd.get()) != 0) return fail(error_from_errno(errno, name));
  return {};
}

}  // namespace telemetryd
