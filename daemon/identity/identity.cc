#include "identity/identity.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/io.h"
#include "base/unique_fd.h"

namespace telemetryd::identity {
namespace {

constexpr std::string_view kTelemetryKitSalt = "telemetry-kit-v1";
constexpr std::string_view kTelemetryKitPrefix = "client_";

// The raw uid in one place that is wiped; std::string would leave copies behind when it grows.
class SecretText {
 public:
  SecretText() = default;

  ~SecretText() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

  SecretText(const SecretText&) = delete;
  SecretText& operator=(const SecretText&) = delete;

  // Empty when read; otherwise why not, without any of the content.
  std::string read(const std::filesystem::path& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd) return error_from_errno(errno, path.native()).message();
    size_ = 0;
    while (size_ < bytes_.size()) {
      const ssize_t got = ::read(fd.get(), bytes_.data() + size_, bytes_.size() - size_);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return error_from_errno(errno, path.native()).message();
      if (got == 0) return {};
      size_ += static_cast<std::size_t>(got);
    }
    return path.native() + " is too long for a machine uid";
  }

  std::string_view trimmed() const {
    constexpr std::string_view kWhite = " \t\r\n";
    std::string_view text(bytes_.data(), size_);
    const std::size_t begin = text.find_first_not_of(kWhite);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(kWhite) + 1 - begin);
  }

 private:
  std::array<char, 256> bytes_{};
  std::size_t size_ = 0;
};

// Why `uid` tells no machine from another; empty when it does.
std::string_view unusable(std::string_view uid) {
  if (uid.empty()) return "is empty";
  if (uid == "uninitialized") return "is not initialized yet";
  if (!parse_uuid(uid)) return "holds no machine uid";
  const auto differs = [&](char c) { return c != '-' && c != uid.front(); };
  if (std::ranges::none_of(uid, differs)) return "holds a placeholder";
  return {};
}

std::string random_id(Scheme scheme) {
  std::array<std::uint8_t, 32> bytes{};
  fill_random(bytes);
  const std::string hex = to_hex(bytes);
  return scheme == Scheme::kTelemetryKit ? std::string(kTelemetryKitPrefix) + hex : hex;
}

}  // namespace

std::string hash(Scheme scheme, std::string_view app, std::string_view uid) {
  const bool kit = scheme == Scheme::kTelemetryKit;
  const std::string salt =
      kit ? std::string(kTelemetryKitSalt) : std::string(app) + ".telemetry.v1";
  const std::string_view first = kit ? uid : std::string_view(salt);
  const std::string_view second = kit ? std::string_view(salt) : uid;

  std::array<std::uint8_t, 32> digest{};
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  TELEMETRYD_CHECK(context != nullptr);
  TELEMETRYD_CHECK(EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1);
  TELEMETRYD_CHECK(EVP_DigestUpdate(context, first.data(), first.size()) == 1);
  TELEMETRYD_CHECK(EVP_DigestUpdate(context, second.data(), second.size()) == 1);
  TELEMETRYD_CHECK(EVP_DigestFinal_ex(context, digest.data(), nullptr) == 1);
  // Frees and wipes the block that still holds the uid.
  EVP_MD_CTX_free(context);
  const std::string hex = to_hex(digest);
  return kit ? std::string(kTelemetryKitPrefix) + hex : hex;
}

Derived derive(Scheme scheme, std::string_view app, const std::filesystem::path& uid_file) {
  std::vector<std::filesystem::path> places{uid_file};
  if (uid_file.empty()) places = {"/var/lib/dbus/machine-id", "/etc/machine-id"};
  std::string why;
  for (const auto& place : places) {
    SecretText text;
    std::string problem = text.read(place);
    if (problem.empty()) {
      const std::string_view reason = unusable(text.trimmed());
      if (reason.empty()) return {hash(scheme, app, text.trimmed()), "machine-id"};
      problem = place.native() + " " + std::string(reason);
    }
    why += (why.empty() ? "" : "; ") + problem;
  }
  return {random_id(scheme), "random: " + why};
}

}  // namespace telemetryd::identity
