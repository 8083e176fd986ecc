#include "base/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/bytes.h"
#include "base/check.h"

namespace telemetryd {

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

}  // namespace telemetryd
