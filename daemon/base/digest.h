// base/digest.h: SHA-256 and HMAC-SHA256, over libcrypto.
//
// Thread:  any; no state.
// Fails:   nothing here fails but out of memory, which ends the process.

#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace telemetryd {

using Digest = std::array<std::uint8_t, 32>;

Digest sha256(std::string_view data);
Digest hmac_sha256(std::string_view key, std::string_view data);

}  // namespace telemetryd
