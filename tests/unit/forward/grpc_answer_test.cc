#include "forward/grpc_answer.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace telemetryd::forward {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using Kind = GrpcAnswer::Kind;

std::string field(char tag, const std::string& content) {
  return std::string(1, tag) + static_cast<char>(content.size()) + content;
}

// google.rpc.Status{code 14, details [RetryInfo{retry_delay: duration}]}.
std::string status_with(const std::string& duration) {
  return "\x08\x0e" + field('\x1a',
                            field('\x0a', "type.googleapis.com/google.rpc.RetryInfo") +
                                field('\x12', field('\x0a', duration)));
}

GrpcAnswer unavailable(const std::string& words, std::string_view details = "") {
  return read_answer(GrpcCode::kUnavailable, words, details);
}

GrpcAnswer not_connected(const std::string& cause) {
  return unavailable("failed to connect to all addresses; last error: " + cause);
}

TEST(GrpcAnswer, RetryInfoIsRoundedUp) {
  // 2.500000001 s
  const auto later = unavailable("", status_with("\x08\x02\x10\x81\xca\xb5\xee\x01")).retry_after;
  EXPECT_EQ(later, 2501ms);
}

TEST(GrpcAnswer, RetryInfoIsCappedAtAnHour) {
  EXPECT_EQ(unavailable("", status_with("\x08\xa0\x8d\x06")).retry_after, 1h);  // 100000 s
}

TEST(GrpcAnswer, RetryInfoThatCannotBeReadSaysNothing) {
  const std::string whole = status_with("\x08\x02");
  EXPECT_EQ(unavailable("", whole).retry_after, 2s);
  for (const std::string& details :
       {""s, "\xff\xff"s, "!!!!"s, whole.substr(0, whole.size() - 1)}) {
    EXPECT_FALSE(unavailable("", details).retry_after) << to_hex(as_bytes(details));
  }
}

TEST(GrpcAnswer, TellsARefusedCertificateFromWeather) {
  const GrpcAnswer refused = not_connected(
      "UNKNOWN: ipv4:192.0.2.1:443: Ssl handshake failed: SSL_ERROR_SSL: error:0A000086:SSL "
      "routines::certificate verify failed");
  EXPECT_EQ(refused.kind, Kind::kTls);
  EXPECT_EQ(refused.message,
            "ipv4:192.0.2.1:443: Ssl handshake failed: SSL_ERROR_SSL: error:0A000086:SSL "
            "routines::certificate verify failed");
  EXPECT_EQ(not_connected("UNKNOWN: Peer name relay is not in peer certificate").kind, Kind::kTls);
  EXPECT_EQ(unavailable("empty address list: ").kind, Kind::kTls);
  EXPECT_EQ(not_connected("UNKNOWN: Failed to connect to remote host: Connection refused").kind,
            Kind::kStatus);
  EXPECT_EQ(unavailable("DNS resolution failed").kind, Kind::kStatus);
}

TEST(GrpcAnswer, APeersWordsAreNoFaultOfTls) {
  EXPECT_EQ(unavailable("SSL_ERROR_SSL, says the relay").kind, Kind::kStatus);
  EXPECT_EQ(read_answer(GrpcCode::kAborted, "empty address list: ", "").kind, Kind::kStatus);
}

TEST(GrpcAnswer, TellsWhatIsNoGrpc) {
  const GrpcAnswer page =
      read_answer(GrpcCode::kUnimplemented, "Received http2 header with status: 404", "");
  EXPECT_EQ(page.kind, Kind::kForeign);
  EXPECT_EQ(page.http_status, 404);
  EXPECT_EQ(not_connected("UNAVAILABLE: ipv4:192.0.2.1:80: Failed parsing HTTP/2").kind,
            Kind::kForeign);
  EXPECT_EQ(
      not_connected("UNKNOWN: x: Cannot check peer: missing selected ALPN property.").http_status,
      0);
}

TEST(GrpcAnswer, NotesThatThePeerClosed) {
  EXPECT_TRUE(not_connected("UNAVAILABLE: ipv4:192.0.2.1:443: Socket closed").closed);
  EXPECT_TRUE(unavailable("Socket closed").closed);
  EXPECT_FALSE(not_connected("UNKNOWN: Failed to connect to remote host: Timeout").closed);
  EXPECT_FALSE(read_answer(GrpcCode::kInternal, "Socket closed", "").closed);
}

}  // namespace
}  // namespace telemetryd::forward
