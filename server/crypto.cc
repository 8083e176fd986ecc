#include "server/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace telemetryd::server {

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

}  // namespace telemetryd::server
