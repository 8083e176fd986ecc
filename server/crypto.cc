#include "server/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/bytes.h"
#include "base/check.h"

namespace telemetryd::server {

Digest sha256(std::string_view data) {
  Digest digest;
  unsigned int size = 0;
  TELEMETRYD_CHECK(
      EVP_Digest(data.data(), data.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1);
  return digest;
}

Digest hmac_sha256(std::string_view key, std::string_view data) {
  Digest digest;
  unsigned int size = 0;
  TELEMETRYD_CHECK(HMAC(EVP_sha256(),
                        key.data(),
                        static_cast<int>(key.size()),
                        as_bytes(data).data(),
                        data.size(),
                        digest.data(),
                        &size) != nullptr);
  return digest;
}

bool equal_constant_time(const Digest& a, const Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string base64(std::span<const std::uint8_t> bytes) {
  // EVP_EncodeBlock ends its output with a zero byte of its own.
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(
      reinterpret_cast<unsigned char*>(text.data()), bytes.data(), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

Secret::Secret(Secret&& other) noexcept : text_(other.text_) {
  // A move of a short string copies it and leaves the original in place, so both paths wipe.
  other.wipe();
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  wipe();
  text_ = other.text_;
  other.wipe();
  return *this;
}

Secret::~Secret() {
  wipe();
}

void Secret::wipe() {
  OPENSSL_cleanse(text_.data(), text_.size());
  text_.clear();
}

}  // namespace telemetryd::server
