#include "forward/http_fault.h"

#include <gtest/gtest.h>
#include <openssl/x509_vfy.h>

namespace telemetryd::forward {
namespace {

using Kind = HttpResponse::Kind;

constexpr std::int64_t kNow = 1'790'000'000;

Ending ending(CURLcode code, std::string_view words, Phase phase = Phase::kConnect) {
  return {
      .code = code, .words = words, .phase = phase, .server = "up.example port 443", .now_s = kNow};
}

Ending certificate(long error) {
  Ending made = ending(CURLE_PEER_FAILED_VERIFICATION, "SSL certificate problem", Phase::kTls);
  made.certificate = error;
  return made;
}

bool says(const Fault& fault, std::string_view words) {
  return fault.words.find(words) != std::string::npos;
}

TEST(HttpFault, FollowsTheTableOfTransports) {
  const struct {
    Ending ending;
    Kind kind;
    v1::Cause cause;
  } rows[] = {
      {ending(CURLE_COULDNT_RESOLVE_HOST, "no name"), Kind::kNetwork, v1::CAUSE_NAME_RESOLUTION},
      {ending(CURLE_COULDNT_CONNECT, "Failed to connect to up.example port 443 after 0 ms"),
       Kind::kNetwork,
       v1::CAUSE_CONNECT},
      {ending(CURLE_GOT_NOTHING, "Empty reply"), Kind::kNetwork, v1::CAUSE_CONNECTION_LOST},
      {ending(CURLE_PARTIAL_FILE, "8 bytes missing"), Kind::kNetwork, v1::CAUSE_CONNECTION_LOST},
      {ending(CURLE_RECV_ERROR, "Connection reset"), Kind::kNetwork, v1::CAUSE_CONNECTION_LOST},
      {ending(CURLE_SEND_ERROR, "Send failure"), Kind::kNetwork, v1::CAUSE_CONNECTION_LOST},
      {ending(CURLE_RECV_ERROR, "Recv failure: Connection timed out"),
       Kind::kNetwork,
       v1::CAUSE_TIMEOUT},
      {ending(CURLE_SSL_CONNECT_ERROR, "Connection reset by peer in connection"),
       Kind::kNetwork,
       v1::CAUSE_CONNECTION_LOST},
      {ending(CURLE_WEIRD_SERVER_REPLY, "Invalid status line"),
       Kind::kNetwork,
       v1::CAUSE_UNEXPECTED_ANSWER},
      {ending(CURLE_UNSUPPORTED_PROTOCOL, "Received HTTP/0.9", Phase::kRead),
       Kind::kNetwork,
       v1::CAUSE_UNEXPECTED_ANSWER},
      {ending(CURLE_UNSUPPORTED_PROTOCOL, "no"), Kind::kSetup, v1::CAUSE_CONFIGURATION},
  };

  for (const auto& row : rows) {
    const Fault fault = explain(row.ending);
    EXPECT_EQ(fault.kind, row.kind) << row.ending.words;
    EXPECT_EQ(fault.cause, row.cause) << row.ending.words;
    EXPECT_TRUE(says(fault, row.ending.words));
  }
}

TEST(HttpFault, ATimeOutNamesItsPhase) {
  const std::pair<Phase, std::string_view> rows[] = {{Phase::kConnect, "while connecting"},
                                                     {Phase::kTls, "in the TLS handshake"},
                                                     {Phase::kSend, "while sending"},
                                                     {Phase::kWait, "waiting for the answer"},
                                                     {Phase::kRead, "while reading"}};
  for (const auto& [phase, words] : rows) {
    const Fault fault = explain(ending(CURLE_OPERATION_TIMEDOUT, "after 1 s", phase));
    EXPECT_EQ(fault.kind, Kind::kNetwork);
    EXPECT_EQ(fault.cause, v1::CAUSE_TIMEOUT);
    EXPECT_TRUE(says(fault, words)) << fault.words;
  }
  const Fault slow = explain(ending(CURLE_OPERATION_TIMEDOUT, "after 1 s", Phase::kResolve));
  EXPECT_EQ(slow.cause, v1::CAUSE_NAME_RESOLUTION);
  EXPECT_TRUE(says(slow, "DNS"));
}

TEST(HttpFault, ABadCertificateNamesTheNextStep) {
  const std::pair<long, std::string_view> rows[] = {
      {X509_V_ERR_CERT_HAS_EXPIRED, "must renew"},
      {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "set ca_file"},
      {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "set ca_file"},
      {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, "set ca_file"},
      {X509_V_OK, "another host: check url"},
      {X509_V_ERR_UNSPECIFIED, "another host: check url"}};
  for (const auto& [error, words] : rows) {
    const Fault fault = explain(certificate(error));
    EXPECT_EQ(fault.kind, Kind::kTls);
    EXPECT_EQ(fault.cause, v1::CAUSE_TLS) << error;
    EXPECT_TRUE(says(fault, words)) << fault.words;
  }
  EXPECT_TRUE(says(
      explain(ending(CURLE_SSL_CONNECT_ERROR, "error:0A000102:SSL routines::unsupported protocol")),
      "TLS 1.2"));
  EXPECT_TRUE(says(
      explain(ending(CURLE_SSL_CONNECT_ERROR, "error:0A00010B:SSL routines::wrong version number")),
      "speaks no TLS"));
}

TEST(HttpFault, AWrongClockIsToldFromAWrongCertificate) {
  Ending early = certificate(X509_V_ERR_CERT_NOT_YET_VALID);
  EXPECT_EQ(explain(early).cause, v1::CAUSE_CLOCK);
  EXPECT_TRUE(says(explain(early), "2026-09-21")) << explain(early).words;

  Ending expired = certificate(X509_V_ERR_CERT_HAS_EXPIRED);
  expired.clock_ahead = std::chrono::hours(23);
  EXPECT_EQ(explain(expired).cause, v1::CAUSE_TLS);
  expired.clock_ahead = std::chrono::hours(25);
  EXPECT_EQ(explain(expired).cause, v1::CAUSE_CLOCK);
  expired.clock_ahead = -std::chrono::hours(25);
  EXPECT_EQ(explain(expired).cause, v1::CAUSE_CLOCK);
  expired.clock_ahead.reset();
  expired.now_s = 1'600'000'000;  // before this program was written
  EXPECT_EQ(explain(expired).cause, v1::CAUSE_CLOCK);
}

TEST(HttpFault, ARefusedCertificateOfOursSaysWhatIsWrongWithIt) {
  Ending refused =
      ending(CURLE_RECV_ERROR, "error:0A00045C:SSL routines::tlsv13 alert certificate required");
  EXPECT_EQ(explain(refused).kind, Kind::kTls);
  EXPECT_EQ(explain(refused).cause, v1::CAUSE_TLS);
  EXPECT_TRUE(says(explain(refused), "set client_cert_file"));
  refused.own_certificate = true;
  refused.own_certificate_expires_s = kNow + 86400;
  EXPECT_TRUE(says(explain(refused), "does not take client_cert_file"));
  refused.own_certificate_expires_s = kNow - 86400;
  EXPECT_TRUE(says(explain(refused), "client_cert_file expired on 2026-09-20"))
      << explain(refused).words;
}

TEST(HttpFault, AProxyIsNamedApartFromTheUpstream) {
  Ending tunnel = ending(CURLE_RECV_ERROR, "CONNECT tunnel failed");

  const struct {
    long status;
    Kind kind;
  } rows[] = {
      {407, Kind::kSetup}, {403, Kind::kSetup}, {502, Kind::kNetwork}, {503, Kind::kNetwork}};

  for (const auto& [status, kind] : rows) {
    tunnel.proxy_status = status;
    EXPECT_EQ(explain(tunnel).kind, kind) << status;
    EXPECT_EQ(explain(tunnel).cause, v1::CAUSE_PROXY) << status;
    EXPECT_TRUE(says(explain(tunnel), "proxy: status " + std::to_string(status)));
  }
  Ending refused =
      ending(CURLE_COULDNT_CONNECT, "Failed to connect to proxy.example port 3128 after 0 ms");
  EXPECT_EQ(explain(refused).cause, v1::CAUSE_CONNECT);
  refused.proxy_is_possible = true;
  Ending behind =
      ending(CURLE_COULDNT_CONNECT, "Failed to connect to up.example port 443 after 0 ms");
  behind.proxy_is_possible = true;
  EXPECT_EQ(explain(behind).cause, v1::CAUSE_CONNECT);
  for (const Ending& down : {ending(CURLE_COULDNT_RESOLVE_PROXY, "no name"),
                             refused,
                             ending(CURLE_PROXY, "cannot complete SOCKS5 connection"),
                             ending(CURLE_OPERATION_TIMEDOUT, "after 1 s", Phase::kProxy)}) {
    EXPECT_EQ(explain(down).kind, Kind::kNetwork) << down.words;
    EXPECT_EQ(explain(down).cause, v1::CAUSE_PROXY) << down.words;
  }
  Ending untrusted = ending(CURLE_PEER_FAILED_VERIFICATION, "self-signed certificate");
  untrusted.over_https_proxy = true;
  EXPECT_EQ(explain(untrusted).kind, Kind::kTls);
  EXPECT_EQ(explain(untrusted).cause, v1::CAUSE_PROXY);
  untrusted.proxy_status = 200;  // behind the tunnel it is the upstream
  EXPECT_EQ(explain(untrusted).cause, v1::CAUSE_TLS);
}

TEST(HttpFault, AClocksDistanceIsSaidInTheUnitThatFits) {
  EXPECT_EQ(how_far(std::chrono::minutes(11)), "11 min ahead of");
  EXPECT_EQ(how_far(std::chrono::hours(-5)), "5 h behind");
  EXPECT_EQ(how_far(std::chrono::hours(24 * 400)), "400 days ahead of");
}

}  // namespace
}  // namespace telemetryd::forward
