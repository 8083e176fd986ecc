// server/native_headers.h: what a native upload says before its body, checked for shape.
//
// Thread:  any; a value.

#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "base/bytes.h"
#include "server/answer.h"
#include "server/crypto.h"
#include "server/endpoint.h"

namespace telemetryd::server {

struct NativeHeaders {
  std::string timestamp;  // as sent: it is signed
  std::int64_t timestamp_s = 0;
  std::string nonce_text;
  Bytes16 nonce{};
  Digest signature{};
  std::uint64_t batch_size = 0;
};

// 400 for the first header that is missing, there twice, or no such thing.
std::expected<NativeHeaders, Answer> parse_native_headers(const RequestHead& head);

}  // namespace telemetryd::server
