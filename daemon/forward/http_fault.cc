#include "forward/http_fault.h"

#include <array>
#include <chrono>
#include <span>

#include <openssl/x509_vfy.h>

#include "base/rfc3339.h"

namespace telemetryd::forward {
namespace {

using Kind = HttpResponse::Kind;

// 1 January 2025. This program is younger: a clock before that is wrong.
constexpr std::int64_t kYoungerThanS = 1'735'689'600;
// A certificate lives for weeks; a clock that is off by less does not make it look expired.
constexpr std::chrono::seconds kClockOffForCertificates{86400};

Fault network(v1::Cause cause, std::string words) {
  return {Kind::kNetwork, cause, std::move(words)};
}

Fault tls(v1::Cause cause, std::string words) {
  return {Kind::kTls, cause, std::move(words)};
}

std::string with(std::string_view words, std::string_view next) {
  std::string text(words);
  if (!next.empty()) text.append("; ").append(next);
  return text;
}

bool names_any(std::string_view text, std::span<const std::string_view> words) {
  for (const std::string_view word : words) {
    if (text.find(word) != std::string_view::npos) return true;
  }
  return false;
}

std::string_view phase_words(Phase phase) {
  switch (phase) {
    case Phase::kResolve: return "while looking up the server's name";
    case Phase::kConnect: return "while connecting";
    case Phase::kProxy: return "while the proxy connects";
    case Phase::kTls: return "in the TLS handshake";
    case Phase::kSend: return "while sending";
    case Phase::kWait: return "while waiting for the answer";
    case Phase::kRead: return "while reading the answer";
  }
  return "";
}

bool clock_in_doubt(const Ending& ending) {
  if (ending.now_s < kYoungerThanS) return true;
  return ending.clock_ahead && clock_is_off(*ending.clock_ahead, kClockOffForCertificates);
}

std::string our_clock(const Ending& ending) {
  return "this machine's clock says " + rfc3339_seconds(ending.now_s) +
         " and seems wrong: check it with `timedatectl`";
}

// OpenSSL looked at the upstream's certificate and did not like what it saw.
Fault explain_certificate(const Ending& ending) {
  switch (ending.certificate) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return tls(v1::CAUSE_CLOCK, with(ending.words, our_clock(ending)));
    case X509_V_ERR_CERT_HAS_EXPIRED:
      if (clock_in_doubt(ending)) {
        return tls(v1::CAUSE_CLOCK, with(ending.words, our_clock(ending)));
      }
      return tls(v1::CAUSE_TLS,
                 with(ending.words, "whoever runs the server must renew its certificate"));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return tls(v1::CAUSE_TLS,
                 with(ending.words,
                      "its authority is not trusted here: set ca_file to your authority's "
                      "certificate, or something in between opens the connection"));
    // So curl leaves it when the chain is good and only the name does not fit.
    case X509_V_OK:
    case X509_V_ERR_UNSPECIFIED:
      return tls(v1::CAUSE_TLS,
                 with(ending.words, "the certificate is for another host: check url"));
    default: return tls(v1::CAUSE_TLS, std::string(ending.words));
  }
}

// The upstream looked at what we showed.
Fault explain_refusal(const Ending& ending) {
  if (!ending.own_certificate) {
    return tls(
        v1::CAUSE_TLS,
        with(ending.words, "it may want a certificate: set client_cert_file and client_key_file"));
  }
  const std::int64_t expires = ending.own_certificate_expires_s;
  if (expires != 0 && expires < ending.now_s) {
    return tls(v1::CAUSE_TLS,
               with(ending.words,
                    "client_cert_file expired on " + rfc3339_seconds(expires) + ": renew it"));
  }
  return tls(v1::CAUSE_TLS, with(ending.words, "the server does not take client_cert_file"));
}

// A handshake that ended with OpenSSL's words; those about an alert are the peer's.
Fault explain_handshake(const Ending& ending) {
  constexpr std::array<std::string_view, 3> kTooOld = {
      "unsupported protocol", "alert protocol version", "wrong ssl version"};
  if (names_any(ending.words, kTooOld)) {
    return tls(v1::CAUSE_TLS, with(ending.words, "the server must offer TLS 1.2 or later"));
  }
  if (ending.words.find("wrong version number") != std::string_view::npos) {
    return tls(v1::CAUSE_TLS,
               with(ending.words, "the server speaks no TLS there: check url and its port"));
  }
  if (ending.words.find("alert") != std::string_view::npos) return explain_refusal(ending);
  return tls(v1::CAUSE_TLS, std::string(ending.words));
}

bool is_tls(const Ending& ending) {
  switch (ending.code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_USE_SSL_FAILED: return true;
    // A connection that breaks in the handshake is weather; a refusal names OpenSSL's error.
    case CURLE_SSL_CONNECT_ERROR: return ending.words.find("error:") != std::string_view::npos;
    // TLS 1.3 servers refuse a client certificate only after the handshake.
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR: return ending.words.find("alert") != std::string_view::npos;
    default: return false;
  }
}

Fault explain_tls(const Ending& ending) {
  switch (ending.code) {
    case CURLE_PEER_FAILED_VERIFICATION: return explain_certificate(ending);
    case CURLE_SSL_CERTPROBLEM:
      return tls(v1::CAUSE_TLS, with(ending.words, "check client_cert_file and client_key_file"));
    case CURLE_SSL_CACERT_BADFILE: return tls(v1::CAUSE_TLS, with(ending.words, "check ca_file"));
    default: return explain_handshake(ending);
  }
}

// What the proxy answered when it was asked for a tunnel.
Fault explain_tunnel(const Ending& ending) {
  const std::string words = "proxy: status " + std::to_string(ending.proxy_status);
  if (ending.proxy_status == 407) {
    return {Kind::kSetup,
            v1::CAUSE_PROXY,
            with(words, "the proxy wants credentials: set proxy_credentials_file")};
  }
  const bool heals =
      ending.proxy_status >= 500 || ending.proxy_status == 408 || ending.proxy_status == 429;
  return {heals ? Kind::kNetwork : Kind::kSetup,
          v1::CAUSE_PROXY,
          with(words, heals ? "it cannot reach the server" : "it does not let us to the server")};
}

bool proxy_refused(const Ending& ending) {
  return ending.proxy_status >= 300;
}

// Whether it was the proxy that could not be reached or did not prove who it is.
bool at_proxy(const Ending& ending) {
  if (ending.code == CURLE_COULDNT_RESOLVE_PROXY || ending.code == CURLE_PROXY) return true;
  if (ending.proxy_certificate != X509_V_OK || ending.phase == Phase::kProxy) return true;
  if (ending.code == CURLE_COULDNT_CONNECT) {
    const bool named = ending.words.find(ending.server) != std::string_view::npos;
    return ending.proxy_is_set || (ending.proxy_is_possible && !named);
  }
  return ending.over_https_proxy && ending.proxy_status == 0 && is_tls(ending);
}

Fault explain_proxy(const Ending& ending) {
  const bool person = is_tls(ending);
  return {person ? Kind::kTls : Kind::kNetwork,
          v1::CAUSE_PROXY,
          with("proxy: " + std::string(ending.words),
               person ? "check proxy, and ca_file for its certificate"
                      : "is proxy right, and does it run?")};
}

Fault explain_timeout(const Ending& ending) {
  std::string words = "timed out " + std::string(phase_words(ending.phase)) + ": ";
  words += ending.words;
  if (ending.phase == Phase::kResolve) {
    return network(v1::CAUSE_NAME_RESOLUTION, with(words, "check this machine's DNS"));
  }
  return network(v1::CAUSE_TIMEOUT, std::move(words));
}

Fault no_http(const Ending& ending) {
  return network(v1::CAUSE_UNEXPECTED_ANSWER,
                 with(ending.words, "is url the address of the server?"));
}

}  // namespace

bool clock_is_off(std::chrono::seconds ahead, std::chrono::seconds bound) {
  return ahead > bound || ahead < -bound;
}

std::string how_far(std::chrono::seconds ahead) {
  const std::int64_t seconds = ahead.count() < 0 ? -ahead.count() : ahead.count();
  const std::string distance = seconds >= 2 * 86400  ? std::to_string(seconds / 86400) + " days"
                               : seconds >= 2 * 3600 ? std::to_string(seconds / 3600) + " h"
                                                     : std::to_string(seconds / 60) + " min";
  return distance + (ahead.count() < 0 ? " behind" : " ahead of");
}

Fault explain(const Ending& ending) {
  if (proxy_refused(ending)) return explain_tunnel(ending);
  if (at_proxy(ending)) return explain_proxy(ending);
  if (is_tls(ending)) return explain_tls(ending);
  const bool answered = ending.phase == Phase::kWait || ending.phase == Phase::kRead;
  switch (ending.code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return network(v1::CAUSE_NAME_RESOLUTION,
                     with(ending.words, "check url, and this machine's network and DNS"));
    case CURLE_COULDNT_CONNECT: return network(v1::CAUSE_CONNECT, std::string(ending.words));
    case CURLE_OPERATION_TIMEDOUT: return explain_timeout(ending);
    case CURLE_UNSUPPORTED_PROTOCOL:
      // Of the answer, when there is one.
      if (answered) return no_http(ending);
      return {Kind::kSetup, v1::CAUSE_CONFIGURATION, std::string(ending.words)};
    case CURLE_URL_MALFORMAT:
    case CURLE_NOT_BUILT_IN:
    case CURLE_FAILED_INIT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
      return {Kind::kSetup, v1::CAUSE_CONFIGURATION, std::string(ending.words)};
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_BAD_CONTENT_ENCODING: return no_http(ending);
    default: break;
  }
  // The kernel gave up on bytes that nobody acknowledged.
  const bool silent = ending.words.find("Connection timed out") != std::string_view::npos;
  return network(silent ? v1::CAUSE_TIMEOUT : v1::CAUSE_CONNECTION_LOST, std::string(ending.words));
}

}  // namespace telemetryd::forward
