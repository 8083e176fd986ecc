// server/sealer.h: signing secrets encrypted at rest, so that a stolen database or backup signs
// nothing.
//
// A server must know a secret to check a signature, so it cannot keep a hash. AES-256-GCM under a
// key in a file beside the database (PATH.key, mode 0600, made once); the token's digest is
// authenticated with it, so a sealed secret cannot be moved to another token.
//
// Owns:    the key, wiped when it goes.
// Thread:  any after open.
// Fails:   kNotFound without a key file, kPermissionDenied when others could read it, kDataLoss for
//          a sealed secret that this key did not seal.

#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/crypto.h"

namespace telemetryd::server {

class Sealer {
 public:
  static std::filesystem::path key_path(const std::filesystem::path& database);

  // Reads the key beside `database`.
  [[nodiscard]] static Result<Sealer> open(const std::filesystem::path& database);
  // Makes it when there is none; never replaces one.
  [[nodiscard]] static Result<Sealer> open_or_create(const std::filesystem::path& database);

  // 12 bytes nonce, ciphertext, 16 bytes tag.
  std::string seal(std::string_view secret, const Digest& token_digest) const;
  [[nodiscard]] Result<Secret> unseal(std::string_view sealed, const Digest& token_digest) const;

  // Tells two keys apart and says nothing about either.
  Digest fingerprint() const;

 private:
  explicit Sealer(Secret key) : key_(std::move(key)) {}

  Secret key_;
};

}  // namespace telemetryd::server
