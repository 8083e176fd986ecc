// server/crypto.h: digests, signatures and text forms of keys, over libcrypto.
//
// Thread:  any; no state.
// Fails:   nothing here fails but out of memory, which ends the process.

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace telemetryd::server {

using Digest = std::array<std::uint8_t, 32>;

Digest sha256(std::string_view data);
Digest hmac_sha256(std::string_view key, std::string_view data);

// Takes as long for a first differing byte as for a last one.
bool equal_constant_time(const Digest& a, const Digest& b);

std::string base64(std::span<const std::uint8_t> bytes);

// Text that leaves no copy of itself behind in freed memory. A moved-from secret is empty.
class Secret {
 public:
  Secret() = default;

  explicit Secret(std::string text) : text_(std::move(text)) {}

  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  std::string_view text() const { return text_; }

 private:
  void wipe();

  std::string text_;
};

}  // namespace telemetryd::server
