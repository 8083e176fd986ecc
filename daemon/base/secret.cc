#include "base/secret.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <utility>

#include <openssl/crypto.h>

#include "base/io.h"
#include "base/unique_fd.h"

namespace telemetryd {
namespace {

Result<void> check_file(const std::filesystem::path& path, int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail(error_from_errno(errno, path.native()));
  if (!S_ISREG(info.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, path.native() + ": not a regular file");
  }
  if ((info.st_mode & S_IRWXO) != 0) {
    return fail(ErrorCode::kPermissionDenied,
                path.native() + ": a secret that everybody may open is none; chmod 0640 " +
                    path.native() + " and change the secret");
  }
  return {};
}

}  // namespace

void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.capacity());
  text.clear();
}

Secret::Secret(Secret&& other) noexcept : text_(other.text_) {
  // A move of a short string copies it and leaves the original in place, so both paths wipe.
  wipe(other.text_);
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  wipe(text_);
  text_ = other.text_;
  wipe(other.text_);
  return *this;
}

Secret::~Secret() {
  wipe(text_);
}

Result<Secret> Secret::read(const std::filesystem::path& path) {
  // Opened once, so that the file that was checked is the file that is read.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail(error_from_errno(errno, path.native()));
  TELEMETRYD_TRY(check_file(path, fd.get()));
  std::string content(kBytesMax + 1, '\0');
  std::size_t size = 0;
  while (size < content.size()) {
    const ssize_t got = ::read(fd.get(), content.data() + size, content.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error_from_errno(errno, path.native()));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  Secret secret(std::move(content));
  if (size > kBytesMax) {
    return fail(ErrorCode::kResourceExhausted,
                path.native() + ": larger than " + std::to_string(kBytesMax) + " bytes");
  }
  while (size > 0 && (secret.text_[size - 1] == '\n' || secret.text_[size - 1] == '\r')) --size;
  secret.text_.resize(size);
  // A line break or a control byte inside would end up inside an HTTP header.
  for (const char c : secret.text_) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) {
      return fail(ErrorCode::kInvalidArgument, path.native() + ": must hold one word");
    }
  }
  if (size == 0) return fail(ErrorCode::kInvalidArgument, path.native() + ": is empty");
  return secret;
}

}  // namespace telemetryd
