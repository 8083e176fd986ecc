#include "forward/native_sink.h"

#include <gtest/gtest.h>

#include "base/io.h"
#include "forward/native_request.h"
#include "integration/forward/scripted_server.h"
#include "integration/forward/sink_fixture.h"
#include "telemetry/v1/native.pb.h"

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;
namespace v1 = ::telemetry::v1;

class NativeSink : public SinkTest {
 protected:
  NativeSink() : SinkTest("native") { authority_.save(dir_ / "ca.pem", dir_ / "ca.key"); }

  static v1::Lease lease(int events = 2) {
    v1::EventBatch batch;
    for (int i = 0; i < events; ++i) batch.add_events()->set_name("started");
    v1::Lease lease;
    lease.set_attempt(1);
    v1::LeasedRow* row = lease.add_rows();
    row->set_seq(7);
    row->set_count(static_cast<std::uint32_t>(events));
    row->set_events(batch.SerializeAsString());
    return lease;
  }

  v1::Outcome send(const std::string& url, const v1::Lease& batch) {
    return send_by(*sink_to<forward::NativeSink>(url), batch);
  }

  v1::Outcome send(const std::string& url) { return send(url, lease()); }

  forward::ProbeOutcome probe(const std::string& url) {
    return probe_by(*sink_to<forward::NativeSink>(url));
  }

  static std::string accept(const SeenRequest& request) {
    return http_success(std::stoi(request.header("X-Batch-Size")));
  }

  Identity authority_ = make_identity("test authority", "", nullptr);
};

TEST_F(NativeSink, SendsASignedBatchThatTheServerCanCheck) {
  ScriptedServer server(accept);
  const v1::Outcome outcome = send(server.url() + "/base/");
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(outcome.status(), 200u);

  const SeenRequest request = server.seen().at(0);
  EXPECT_TRUE(request.head.starts_with("POST /base/v1/native/acme/tools HTTP/1.1\r\n"));
  EXPECT_EQ(request.header("Authorization"), std::string("Bearer ") + kToken);
  EXPECT_EQ(request.header("Content-Type"), "application/x-protobuf");
  EXPECT_EQ(request.header("X-Timestamp"), std::to_string(clock_.unix_ms() / 1000));
  EXPECT_EQ(request.header("X-Batch-Size"), "2");
  EXPECT_EQ(request.header("Expect"), "");
  EXPECT_TRUE(request.header("User-Agent").starts_with("telemetryd/"));
  EXPECT_EQ(request.header("X-Signature"),
            forward::sign(kSecret,
                          {"POST",
                           "/base/v1/native/acme/tools",
                           request.header("X-Timestamp"),
                           request.header("X-Nonce"),
                           request.body}));
  v1::NativeBatch batch;
  ASSERT_TRUE(batch.ParseFromString(request.body));
  EXPECT_EQ(batch.batch_size(), 2u);
  EXPECT_EQ(outcome.body_bytes(), request.body.size());
}

TEST_F(NativeSink, ARetryIsANewRequestOnTheSameConnection) {
  ScriptedServer server(accept);
  send(server.url());
  send(server.url());
  const auto seen = server.seen();
  EXPECT_NE(seen.at(0).header("X-Nonce"), seen.at(1).header("X-Nonce"));
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(NativeSink, ALargeBatchArrivesWhole) {
  ScriptedServer server(accept);
  EXPECT_EQ(send(server.url(), lease(100000)).verdict(), v1::VERDICT_DELIVERED);
}

TEST_F(NativeSink, RetryAfterIsReadAsSeconds) {
  ScriptedServer server(
      [](const auto&) { return http_answer("429 Slow", "", "Retry-After: 120\r\n"); });
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(outcome.retry_after_ms(), 120000u);
}

TEST_F(NativeSink, RetryAfterIsReadAsADateAndCapped) {
  ScriptedServer server([](const auto&) {
    return http_answer("503 Later", "", "Retry-After: Fri, 01 Jan 2094 00:00:00 GMT\r\n");
  });
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(outcome.retry_after_ms(), 3600000u);
}

TEST_F(NativeSink, ACaptivePortalIsHeld) {
  ScriptedServer server([](const auto&) {
    return http_answer("200 OK", "<html>Welcome</html>", "Content-Type: text/html\r\n");
  });
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(outcome.error().find("captive portal"), std::string::npos);
}

TEST_F(NativeSink, ARedirectIsNotFollowed) {
  ScriptedServer elsewhere(accept);
  ScriptedServer server([&](const auto&) {
    return http_answer("307 Moved", "", "Location: " + elsewhere.url() + "/x?y=z\r\n");
  });
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(elsewhere.connections(), 0);
}

TEST_F(NativeSink, AServerThatQuotesOurCredentialsDoesNotPutThemIntoTheStatus) {
  ScriptedServer server([](const auto&) {
    return http_answer("401 No",
                       std::string(R"({"error":{"code":"unauthorized","message":"bad )") + kToken +
                           " " + kSecret + "\"}}");
  });
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(outcome.error().find("bad [hidden] [hidden]"), std::string::npos) << outcome.error();
}

TEST_F(NativeSink, ABrokenConnectionIsRetried) {
  ScriptedServer server([](const auto&) { return std::string(); });
  EXPECT_EQ(send(server.url()).verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(send("http://127.0.0.1:1").verdict(), v1::VERDICT_RETRY);
}

TEST_F(NativeSink, AnAnswerThatBreaksOffIsRetried) {
  ScriptedServer server([](const auto&) {
    return std::string("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 500\r\n\r\n{") +
           "\"status\":\"success\"";
  });
  timeout_ = 1s;
  EXPECT_EQ(send(server.url()).verdict(), v1::VERDICT_RETRY);
}

TEST_F(NativeSink, ASlowServerIsLeftAndRetried) {
  ScriptedServer server([](const auto&) { return std::string("hang"); });
  timeout_ = 1s;
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(outcome.status(), 0u);
}

TEST_F(NativeSink, AnEndlessAnswerIsCutOff) {
  ScriptedServer server(
      [](const auto&) { return http_answer("200 OK", std::string(2u << 20, ' ')); });
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
  EXPECT_NE(outcome.error().find("larger than"), std::string::npos);
}

TEST_F(NativeSink, EndlessHeadersAreCutOff) {
  ScriptedServer server([](const auto&) {
    std::string headers;
    for (int i = 0; i < 2000; ++i) headers += "X-Filler: " + std::string(60, 'x') + "\r\n";
    return http_answer("200 OK", "", headers);
  });
  EXPECT_EQ(send(server.url()).verdict(), v1::VERDICT_RETRY);
}

TEST_F(NativeSink, PlainHttpStaysOnThisMachine) {
  const v1::Outcome outcome = send("http://192.0.2.1");
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(outcome.error().find("plain http"), std::string::npos);
}

TEST_F(NativeSink, ASecretThatEverybodyMayReadSendsNothing) {
  ScriptedServer server(accept);
  std::filesystem::permissions(destination_.secret_file, std::filesystem::perms(0644));
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(outcome.error().find("chmod 0640"), std::string::npos);
  EXPECT_EQ(server.connections(), 0);
}

TEST_F(NativeSink, DeliversOverTlsToAServerThatTheAuthorityVouchesFor) {
  const ScriptedServer::Tls tls{make_identity("server", "IP:127.0.0.1", &authority_)};
  ScriptedServer server(accept, &tls);
  destination_.ca_file = dir_ / "ca.pem";
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
}

TEST_F(NativeSink, ForeignCertificatesAreHeld) {
  const Identity stranger = make_identity("stranger", "", nullptr);
  const std::vector<std::pair<std::string, Identity>> cases = {
      {"unknown authority", make_identity("server", "IP:127.0.0.1", &stranger)},
      {"other host", make_identity("server", "DNS:other.example", &authority_)},
      {"expired", make_identity("server", "IP:127.0.0.1", &authority_, -1)},
      {"self-signed", make_identity("server", "IP:127.0.0.1", nullptr)}};
  destination_.ca_file = dir_ / "ca.pem";
  for (const auto& [name, identity] : cases) {
    const ScriptedServer::Tls tls{identity};
    ScriptedServer server(accept, &tls);
    const v1::Outcome outcome = send(server.url());
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD) << name << ": " << outcome.error();
    EXPECT_TRUE(outcome.error().starts_with("TLS: ")) << outcome.error();
    EXPECT_TRUE(server.seen().empty()) << name;
  }
}

TEST_F(NativeSink, AnUnreadableAuthorityFileIsHeld) {
  const ScriptedServer::Tls tls{make_identity("server", "IP:127.0.0.1", &authority_)};
  ScriptedServer server(accept, &tls);
  destination_.ca_file = dir_ / "absent.pem";
  EXPECT_EQ(send(server.url()).verdict(), v1::VERDICT_HOLD);
}

TEST_F(NativeSink, AServerThatWantsAClientCertificateGetsOursOrHolds) {
  const ScriptedServer::Tls tls{make_identity("server", "IP:127.0.0.1", &authority_), &authority_};
  destination_.ca_file = dir_ / "ca.pem";
  {
    ScriptedServer server(accept, &tls);
    const v1::Outcome outcome = send(server.url());
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD) << outcome.error();
    EXPECT_TRUE(server.seen().empty());
  }
  make_identity("client", "DNS:client", &authority_).save(dir_ / "client.pem", dir_ / "client.key");
  destination_.client_cert_file = dir_ / "client.pem";
  destination_.client_key_file = dir_ / "client.key";
  ScriptedServer server(accept, &tls);
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
}

TEST_F(NativeSink, AProbeAsksForHealthAndThenProvesTheCredentials) {
  ScriptedServer server([](const SeenRequest& request) {
    if (request.head.starts_with("GET /health ")) return http_answer("200 OK", "{}");
    return accept(request);
  });
  const forward::ProbeOutcome outcome = probe(server.url());
  EXPECT_TRUE(outcome.ok) << outcome.detail;
  ASSERT_EQ(server.seen().size(), 2u);
  EXPECT_EQ(server.seen()[0].header("Authorization"), "");
  EXPECT_EQ(server.seen()[1].header("X-Batch-Size"), "0");
}

TEST_F(NativeSink, AProbeSaysAtWhichStepItFailed) {
  ScriptedServer server([](const SeenRequest& request) {
    if (request.head.starts_with("GET /health ")) return http_answer("200 OK", "{}");
    return http_answer("401 No", "");
  });
  const forward::ProbeOutcome refused = probe(server.url());
  EXPECT_FALSE(refused.ok);
  EXPECT_TRUE(refused.detail.starts_with("upload without events: status 401")) << refused.detail;
  EXPECT_TRUE(probe("http://127.0.0.1:1").detail.starts_with("GET /health: "));
}

}  // namespace
}  // namespace telemetryd::test
