// kit/signature.h: what a telemetry-kit request signs.
//
// Two forms are in use and neither end says which: SDKs and older servers sign the nonce as well,
// the newest server does not. Path, method and headers are covered by neither, which is why kind
// `native` has a form of its own.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace telemetryd::kit {

enum class SignatureForm : std::uint8_t {
  kNonce,  // {timestamp}:{nonce}:{body}
  kPlain,  // {timestamp}:{body}; a captured request is told from a new one by its signature only
};

struct SignedRequest {
  std::string_view timestamp;  // X-Timestamp as sent
  std::string_view nonce;      // X-Nonce as sent; not part of the plain form
  std::string_view body;       // the exact bytes
};

// HMAC-SHA256 of this with the secret's characters as key, in hex, is X-Signature.
std::string string_to_sign(SignatureForm form, const SignedRequest& request);

}  // namespace telemetryd::kit
