// forward/http_fault.h: why a transfer brought no answer, in plain words with the next step.
//
// curl says it in a code, a sentence and what it measured on the way: a name that was never
// resolved, a handshake that never ended, a certificate and what is wrong with it. A proxy is named
// apart from the upstream, and a wrong clock apart from a wrong certificate.
//
// Thread:  any; no state.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <curl/curl.h>

#include "forward/http.h"

namespace telemetryd::forward {

// How far a transfer came.
enum class Phase { kResolve, kConnect, kProxy, kTls, kSend, kWait, kRead };

// How a transfer ended, as curl tells it.
struct Ending {
  CURLcode code = CURLE_OK;
  std::string_view words;  // curl's sentence
  Phase phase = Phase::kResolve;
  long certificate = 0;  // X509_V_ERR_… of the upstream's certificate
  long proxy_certificate = 0;
  long proxy_status = 0;           // of the answer to CONNECT
  std::string_view server;         // "host port 443": as curl names where it could not connect to
  bool proxy_is_set = false;       // by the destination
  bool proxy_is_possible = false;  // by the environment, which may except this server
  bool over_https_proxy = false;
  bool own_certificate = false;                     // we have one to show
  std::int64_t own_certificate_expires_s = 0;       // since the epoch; 0: none
  std::int64_t now_s = 0;                           // our clock
  std::optional<std::chrono::seconds> clock_ahead;  // of the last server that told its time
};

struct Fault {
  HttpResponse::Kind kind = HttpResponse::Kind::kNetwork;
  v1::Cause cause = v1::CAUSE_UNSPECIFIED;
  std::string words;
};

// The ending of a transfer that brought no whole answer.
Fault explain(const Ending& ending);

// Whether a clock that is so far from a server's cannot be right.
bool clock_is_off(std::chrono::seconds ahead, std::chrono::seconds bound);

// "3 days ahead of", "2 h behind": of the server's clock.
std::string how_far(std::chrono::seconds ahead);

}  // namespace telemetryd::forward
