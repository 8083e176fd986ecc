// server/crypto.h: what the server needs beside base's digests and secrets, over libcrypto.
//
// Thread:  any; no state.
// Fails:   nothing here fails but out of memory, which ends the process.

#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/digest.h"
#include "base/secret.h"

namespace telemetryd::server {

// Takes as long for a first differing byte as for a last one.
bool equal_constant_time(const Digest& a, const Digest& b);

std::string base64(std::span<const std::uint8_t> bytes);

}  // namespace telemetryd::server
