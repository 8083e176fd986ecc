#include "ctl/line_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/io.h"

namespace telemetryd::ctl {
namespace {

constexpr std::size_t kReadBytes = 256 * 1024;

Result<UniqueFd> spool_file() {
  std::error_code ignored;
  std::string pattern =
      (std::filesystem::temp_directory_path(ignored) / "telemetryctl-XXXXXX").native();
  UniqueFd fd(mkostemp(pattern.data(), O_CLOEXEC));
  if (!fd) return fail(error_from_errno(errno, "making a temporary file"));
  unlink(pattern.c_str());
  return fd;
}

Result<UniqueFd> spool(int from, std::uint64_t bytes_max) {
  TELEMETRYD_ASSIGN(UniqueFd to, spool_file());
  std::array<char, 64 * 1024> block{};
  std::uint64_t total = 0;
  while (true) {
    const ssize_t got = read(from, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error_from_errno(errno, "reading the input"));
    if (got == 0) return to;
    total += static_cast<std::uint64_t>(got);
    if (total > bytes_max) {
      return fail(ErrorCode::kResourceExhausted,
                  fmt::format("the input is larger than {} bytes; give a file, which is read in "
                              "place, or a larger --spool-bytes-max",
                              bytes_max));
    }
    for (ssize_t done = 0; done < got;) {
      const ssize_t put =
          write(to.get(), block.data() + done, static_cast<std::size_t>(got - done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return fail(error_from_errno(errno, "writing the temporary file"));
      done += put;
    }
  }
}

}  // namespace

struct LineReader::Hash {
  EVP_MD_CTX* context = EVP_MD_CTX_new();

  Hash() = default;
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;

  ~Hash() { EVP_MD_CTX_free(context); }
};

LineReader::LineReader(int fd, std::string_view hash_prefix)
    : fd_(fd), hash_(std::make_unique<Hash>()) {
  EVP_DigestInit_ex(hash_->context, EVP_sha256(), nullptr);
  EVP_DigestUpdate(hash_->context, hash_prefix.data(), hash_prefix.size());
}

LineReader::~LineReader() = default;

Result<bool> LineReader::fill() {
  if (begin_ > 0) {
    buffer_.erase(0, begin_);
    begin_ = 0;
  }
  const std::size_t kept = buffer_.size();
  buffer_.resize(kept + kReadBytes);
  ssize_t got = 0;
  do {
    got = pread(fd_, buffer_.data() + kept, kReadBytes, offset_);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return fail(error_from_errno(errno, "reading the input"));
  buffer_.resize(kept + static_cast<std::size_t>(got));
  EVP_DigestUpdate(hash_->context, buffer_.data() + kept, static_cast<std::size_t>(got));
  offset_ += got;
  at_end_ = got == 0;
  return got > 0;
}

Result<bool> LineReader::next(Line& line) {
  line = Line{};
  std::size_t searched = begin_;
  while (true) {
    const auto end = buffer_.find('\n', searched);
    if (end != std::string::npos || (at_end_ && begin_ < buffer_.size())) {
      const std::size_t stop = end != std::string::npos ? end : buffer_.size();
      line.text = std::string_view(buffer_).substr(begin_, stop - begin_);
      begin_ = std::min(stop + 1, buffer_.size());
      break;
    }
    if (at_end_) return false;
    searched = buffer_.size() - begin_;
    // A line that is too long is not kept: its beginning is enough to say so.
    if (searched > 2 * kLineBytesMax) {
      buffer_.resize(begin_ + kLineBytesMax + 1);
      searched = kLineBytesMax + 1;
    }
    TELEMETRYD_TRY(fill());
  }
  line.number = ++number_;
  if (!line.text.empty() && line.text.back() == '\r') line.text.remove_suffix(1);
  if (line.text.size() > kLineBytesMax) {
    line.too_long = true;
    line.text = line.text.substr(0, kLineBytesMax);
  }
  return true;
}

Bytes16 LineReader::content_hash() const {
  std::array<std::uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_MD_CTX* copy = EVP_MD_CTX_new();
  EVP_MD_CTX_copy_ex(copy, hash_->context);
  EVP_DigestFinal_ex(copy, digest.data(), &size);
  EVP_MD_CTX_free(copy);
  Bytes16 out{};
  std::copy_n(digest.begin(), out.size(), out.begin());
  return out;
}

Result<UniqueFd> open_rereadable(const std::string& path, std::uint64_t spool_bytes_max) {
  if (path == "-") return spool(STDIN_FILENO, spool_bytes_max);
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(error_from_errno(errno, path));
  struct stat status{};
  if (fstat(fd.get(), &status) != 0) return fail(error_from_errno(errno, path));
  if (S_ISREG(status.st_mode)) return fd;
  if (S_ISDIR(status.st_mode)) return fail(ErrorCode::kFailedPrecondition, path + ": is a folder");
  return spool(fd.get(), spool_bytes_max);
}

}  // namespace telemetryd::ctl
