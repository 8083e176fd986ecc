// server/kit_headers.h: what a telemetry-kit upload says before its body, checked for shape.
//
// Thread:  any; a value.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "server/answer.h"
#include "server/crypto.h"
#include "server/endpoint.h"

namespace telemetryd::server {

// What a server takes beyond the safe form, for clients that know no other.
struct KitLeniency {
  bool plain_signatures = false;  // that leave X-Nonce out
  bool missing_token = false;     // without Authorization
};

struct KitHeaders {
  std::optional<std::string> token;
  std::string timestamp;  // as sent: it is signed
  std::int64_t timestamp_s = 0;
  std::optional<Bytes16> nonce;  // nothing: it can only be the plain form
  std::string nonce_text;
  Digest signature{};
  std::optional<std::uint64_t> batch_size;
  bool do_not_track = false;
};

// 401 for what is missing, then 400 for what is malformed, as in the table of the format.
std::expected<KitHeaders, Answer> parse_kit_headers(const RequestHead& head,
                                                    const KitLeniency& leniency);

}  // namespace telemetryd::server
