// gateway/remote.h: what connections from other machines have to show, and what we show them.
//
// Read once at the start: a certificate that was renewed counts from the next start of the gateway.
//
// Thread:  any.
// Fails:   kPermissionDenied for a key or token that everybody may open, kInvalidArgument for an
//          empty file, and what read_file() says.

#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "config/config.h"

namespace telemetryd::gateway {

// Certificates as PEM texts. Without a certificate the server speaks plain HTTP/2.
struct Tls {
  std::string certificate;
  std::string key;
  std::string client_ca;  // empty: no client certificate is asked for
};

struct Remote {
  Tls tls;
  std::string token;  // empty: nobody has to bring one
};

[[nodiscard]] Result<Remote> read_remote(const config::Config::Gateway& gateway);

// Whether a listening socket may serve with `remote`: in the clear only on this machine, and beyond
// it not for everybody.
[[nodiscard]] Result<void> check_exposure(bool loopback, const Remote& remote);

// Whether the value of an `authorization` header is the bearer token; takes the same time wherever
// they differ.
bool token_matches(std::string_view authorization, std::string_view token);

}  // namespace telemetryd::gateway
