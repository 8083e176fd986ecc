#include "server/sealer.h"

#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/io.h"
#include "base/unique_fd.h"

namespace telemetryd::server {
namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;

using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

const unsigned char* raw(std::string_view text) {
  return as_bytes(text).data();
}

unsigned char* raw(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

Result<void> check_private(const std::filesystem::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return fail(error_from_errno(errno, path.native()));
  if ((status.st_mode & 077) != 0) {
    return fail(ErrorCode::kPermissionDenied,
                path.native() + " can be read by others; run `chmod 600 " + path.native() + "`");
  }
  return {};
}

// The name appears with its whole content or not at all, and never over an existing key.
Result<void> create_key_file(const std::filesystem::path& path) {
  std::string key(kKeyBytes, '\0');
  fill_random({reinterpret_cast<std::uint8_t*>(key.data()), key.size()});
  const Secret text(to_hex(as_bytes(key)) + "\n");
  OPENSSL_cleanse(key.data(), key.size());
  const std::string temporary = path.native() + "." + std::to_string(::getpid());
  TELEMETRYD_TRY(replace_file(temporary, text.text(), 0600));
  const int linked = ::link(temporary.c_str(), path.c_str());
  const int link_errno = errno;
  ::unlink(temporary.c_str());
  if (linked != 0 && link_errno != EEXIST) return fail(error_from_errno(link_errno, path.native()));
  return sync_directory(path.parent_path());
}

}  // namespace

std::filesystem::path Sealer::key_path(const std::filesystem::path& database) {
  return database.native() + ".key";
}

Result<Sealer> Sealer::open(const std::filesystem::path& database) {
  const auto path = key_path(database);
  auto read = read_file(path, 1024);
  if (!read && read.error().code() == ErrorCode::kNotFound) {
    return fail(ErrorCode::kNotFound,
                path.native() +
                    " is missing; restore it from the backup that holds the database: "
                    "without it the stored secrets cannot be read");
  }
  if (!read) return fail(read.error());
  const Secret text(std::move(*read));
  TELEMETRYD_TRY(check_private(path));
  std::string_view hex = text.text();
  if (hex.ends_with('\n')) hex.remove_suffix(1);
  auto key = from_hex(hex);
  if (!key || key->size() != kKeyBytes) {
    return fail(ErrorCode::kDataLoss, path.native() + " is not a key of telemetry-server");
  }
  return Sealer(Secret(std::move(*key)));
}

Result<Sealer> Sealer::open_or_create(const std::filesystem::path& database) {
  std::error_code ignored;
  if (!std::filesystem::exists(key_path(database), ignored)) {
    TELEMETRYD_TRY(create_key_file(key_path(database)));
  }
  return open(database);
}

std::string Sealer::seal(std::string_view secret, const Digest& token_digest) const {
  std::string out(kNonceBytes + secret.size() + kTagBytes, '\0');
  fill_random({raw(out), kNonceBytes});
  const CipherContext context(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  int size = 0;
  bool good = EVP_EncryptInit_ex(
                  context.get(), EVP_aes_256_gcm(), nullptr, raw(key_.text()), raw(out)) == 1;
  good = good && EVP_EncryptUpdate(context.get(),
                                   nullptr,
                                   &size,
                                   token_digest.data(),
                                   static_cast<int>(token_digest.size())) == 1;
  good = good && EVP_EncryptUpdate(context.get(),
                                   raw(out) + kNonceBytes,
                                   &size,
                                   raw(secret),
                                   static_cast<int>(secret.size())) == 1;
  unsigned char* tag = raw(out) + kNonceBytes + secret.size();
  good = good && EVP_EncryptFinal_ex(context.get(), tag, &size) == 1;
  good = good && EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag) == 1;
  TELEMETRYD_CHECK(good);
  return out;
}

Result<Secret> Sealer::unseal(std::string_view sealed, const Digest& token_digest) const {
  const Error damaged(ErrorCode::kDataLoss,
                      "a stored secret was sealed with another key, or is damaged");
  if (sealed.size() < kNonceBytes + kTagBytes) return fail(damaged);
  const std::string_view cipher =
      sealed.substr(kNonceBytes, sealed.size() - kNonceBytes - kTagBytes);
  std::string tag(sealed.substr(kNonceBytes + cipher.size()));
  std::string out(cipher.size(), '\0');
  const CipherContext context(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  int size = 0;
  bool good = EVP_DecryptInit_ex(
                  context.get(), EVP_aes_256_gcm(), nullptr, raw(key_.text()), raw(sealed)) == 1;
  good = good && EVP_DecryptUpdate(context.get(),
                                   nullptr,
                                   &size,
                                   token_digest.data(),
                                   static_cast<int>(token_digest.size())) == 1;
  good = good &&
         EVP_DecryptUpdate(
             context.get(), raw(out), &size, raw(cipher), static_cast<int>(cipher.size())) == 1;
  good = good && EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, raw(tag)) == 1;
  good = good && EVP_DecryptFinal_ex(context.get(), raw(out) + out.size(), &size) == 1;
  Secret secret(std::move(out));
  if (!good) return fail(damaged);
  return secret;
}

Digest Sealer::fingerprint() const {
  return hmac_sha256(key_.text(), "telemetry-server key fingerprint");
}

}  // namespace telemetryd::server
