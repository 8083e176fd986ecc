// Every way in which an upstream over HTTP can answer, or fail to, played over real sockets and
// TLS; docs/delivery.md is the table.

#include <condition_variable>
#include <dlfcn.h>
#include <netdb.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "forward/native_sink.h"
#include "integration/forward/scripted_server.h"
#include "integration/forward/sink_fixture.h"

namespace {

// What becomes of names that end in ".test".
class Names {
 public:
  enum class Way { kFound, kUnknown, kNever };

  void go(Way way) {
    const std::lock_guard lock(mutex_);
    way_ = way;
    changed_.notify_all();
  }

  Way ask() {
    std::unique_lock lock(mutex_);
    ++asked_;
    const Way way = way_;
    changed_.wait(lock, [this] { return way_ != Way::kNever; });
    return way;
  }

  int asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Way way_ = Way::kFound;
  int asked_ = 0;
};

Names names;

}  // namespace

// The C library's, for everybody in this program.
extern "C" int getaddrinfo(const char* name,
                           const char* service,
                           const addrinfo* hints,
                           addrinfo** found) {
  using Function = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
  static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  if (name == nullptr || !std::string_view(name).ends_with(".test")) {
    return real(name, service, hints, found);
  }
  if (names.ask() != Names::Way::kFound) return EAI_NONAME;
  return real("127.0.0.1", service, hints, found);
}

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;
namespace v1 = ::telemetry::v1;

class Answers : public SinkTest {
 protected:
  Answers() : SinkTest("native") {
    authority_.save(dir_ / "ca.pem", dir_ / "ca.key");
    for (const char* name :
         {"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"}) {
      ::unsetenv(name);
    }
    // Certificates are looked at by the system's clock, so ours must agree with it.
    clock_.jump(std::chrono::milliseconds(SystemClock().unix_ms() - clock_.unix_ms()));
  }

  static v1::Lease lease(int events = 2) {
    v1::Lease lease;
    lease.set_attempt(1);
    v1::LeasedRow* row = lease.add_rows();
    row->set_seq(7);
    row->set_count(static_cast<std::uint32_t>(events));
    for (int i = 0; i < events; ++i) row->mutable_events()->append("\x0a\x00", 2);
    return lease;
  }

  v1::Outcome send(const std::string& url, int events = 2) {
    return send_by(*sink_to<forward::NativeSink>(url), lease(events));
  }

  static std::string accept(const SeenRequest& request) {
    return http_success(std::stoi(request.header("X-Batch-Size")));
  }

  // Trusts `authority_`, and shows a certificate of it.
  void show_certificate(int days = 2) {
    destination_.ca_file = dir_ / "ca.pem";
    destination_.client_cert_file = dir_ / "client.pem";
    destination_.client_key_file = dir_ / "client.key";
    make_identity("client", "DNS:client", &authority_, days)
        .save(destination_.client_cert_file, destination_.client_key_file);
  }

  ScriptedServer::Tls tls() const { return {make_identity("server", "IP:127.0.0.1", &authority_)}; }

  static void expect(const v1::Outcome& outcome,
                     v1::Verdict verdict,
                     v1::Cause cause,
                     std::string_view words = "") {
    EXPECT_EQ(outcome.verdict(), verdict) << outcome.error();
    EXPECT_EQ(outcome.cause(), cause) << outcome.error();
    EXPECT_NE(outcome.error().find(words), std::string::npos) << outcome.error();
  }

  Identity authority_ = make_identity("test authority", "", nullptr);
};

TEST_F(Answers, EveryStatusHasItsVerdictAndCause) {
  constexpr auto kRetry = v1::VERDICT_RETRY;
  constexpr auto kHold = v1::VERDICT_HOLD;

  const struct {
    const char* status;
    v1::Verdict verdict;
    v1::Cause cause;
  } rows[] = {{"200 OK", kHold, v1::CAUSE_UNEXPECTED_ANSWER},
              {"201 Created", kHold, v1::CAUSE_UNEXPECTED_ANSWER},
              {"202 Accepted", kHold, v1::CAUSE_UNEXPECTED_ANSWER},
              {"206 Partial", kHold, v1::CAUSE_UNEXPECTED_ANSWER},
              {"401 Unauthorized", kHold, v1::CAUSE_AUTHENTICATION},
              {"402 Pay", kHold, v1::CAUSE_AUTHENTICATION},
              {"403 Forbidden", kHold, v1::CAUSE_AUTHENTICATION},
              {"404 Not Found", kHold, v1::CAUSE_ENDPOINT},
              {"405 Method", kHold, v1::CAUSE_ENDPOINT},
              {"407 Proxy", kHold, v1::CAUSE_PROXY},
              {"408 Timeout", kRetry, v1::CAUSE_TIMEOUT},
              {"409 Conflict", kRetry, v1::CAUSE_UNEXPECTED_ANSWER},
              {"410 Gone", kHold, v1::CAUSE_ENDPOINT},
              {"411 Length", kHold, v1::CAUSE_BAD_REQUEST},
              {"415 Type", kHold, v1::CAUSE_ENDPOINT},
              {"418 Teapot", kHold, v1::CAUSE_UNEXPECTED_ANSWER},
              {"425 Early", kRetry, v1::CAUSE_UNEXPECTED_ANSWER},
              {"429 Slow", kRetry, v1::CAUSE_RATE_LIMIT},
              {"431 Headers", kHold, v1::CAUSE_BAD_REQUEST},
              {"500 Broken", kRetry, v1::CAUSE_SERVER},
              {"501 What", kRetry, v1::CAUSE_SERVER},
              {"502 Bad", kRetry, v1::CAUSE_SERVER},
              {"503 Later", kRetry, v1::CAUSE_SERVER},
              {"504 Late", kRetry, v1::CAUSE_SERVER},
              {"511 Log In", kHold, v1::CAUSE_CAPTIVE_PORTAL}};

  std::string status;
  ScriptedServer server([&](const auto&) { return http_answer(status, "{}"); });
  for (const auto& row : rows) {
    SCOPED_TRACE(row.status);
    status = row.status;
    const v1::Outcome outcome = send(server.url());
    expect(outcome, row.verdict, row.cause);
    EXPECT_EQ(outcome.status(), std::stoul(status));
    EXPECT_FALSE(outcome.error().empty());
  }
  // The answers of servers do not end connections.
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(Answers, ARedirectIsHeldWhateverItsStatus) {
  std::string status;
  ScriptedServer server(
      [&](const auto&) { return http_answer(status, "", "Location: /elsewhere\r\n"); });
  for (const char* redirect : {"301 M", "302 F", "303 S", "307 T", "308 P"}) {
    status = redirect;
    expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_ENDPOINT, "redirects are not followed");
  }
  EXPECT_EQ(server.seen().size(), 5u);
}

TEST_F(Answers, AWebPageMeansACaptivePortal) {
  const std::string type = "Content-Type: text/html\r\n";
  std::string answer = http_answer("200 OK", "<html>Welcome</html>", type);
  ScriptedServer server([&](const auto&) { return answer; });
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_CAPTIVE_PORTAL, "captive portal");
  answer = http_answer("302 F", "<html>", type + "Location: http://portal.example/login\r\n");
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_CAPTIVE_PORTAL, "wants a login");
  answer = http_answer("511 Log In", "<html>", type);
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_CAPTIVE_PORTAL, "wants a login");
}

TEST_F(Answers, ARefusalByAServerWithAnotherTimeIsTheClocksFault) {
  ScriptedServer server([](const auto&) {
    return http_answer("403 No", "", "Date: Fri, 01 Jan 2094 00:00:00 GMT\r\n");
  });
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_CLOCK, "behind the server's");
}

TEST_F(Answers, AnAnswerWithoutEndIsCutOff) {
  std::string answer = http_answer("200 OK", std::string(2u << 20, ' '));
  ScriptedServer server([&](const auto&) { return answer; });
  expect(send(server.url()), v1::VERDICT_RETRY, v1::CAUSE_UNEXPECTED_ANSWER, "larger than");
  std::string headers;
  for (int i = 0; i < 2000; ++i) headers += "X-Filler: " + std::string(60, 'x') + "\r\n";
  answer = http_answer("200 OK", "", headers);
  expect(send(server.url()), v1::VERDICT_RETRY, v1::CAUSE_UNEXPECTED_ANSWER);
  answer = "cut 220 mail.example ready\r\n\r\n";
  expect(send(server.url()), v1::VERDICT_RETRY, v1::CAUSE_UNEXPECTED_ANSWER);
}

TEST_F(Answers, ANameThatDoesNotResolveIsRetried) {
  names.go(Names::Way::kUnknown);
  expect(send("https://nowhere.test"), v1::VERDICT_RETRY, v1::CAUSE_NAME_RESOLUTION, "DNS");
  names.go(Names::Way::kFound);
}

TEST_F(Answers, ALookUpThatNeverEndsIsLeftAndRetried) {
  names.go(Names::Way::kNever);
  timeout_ = 1s;
  expect(send("https://nowhere.test"),
         v1::VERDICT_RETRY,
         v1::CAUSE_NAME_RESOLUTION,
         "while looking up the server's name");
  names.go(Names::Way::kFound);
}

TEST_F(Answers, WhileAServersNameCannotBeLookedUpItsLastAddressServes) {
  const ScriptedServer::Tls tls{make_identity("server", "DNS:up.test", &authority_)};
  // Each request needs a new connection, and that a look-up.
  ScriptedServer server([](const SeenRequest& request) { return "cut " + accept(request); }, &tls);
  destination_.ca_file = dir_ / "ca.pem";
  const int asked = names.asked();
  int sent = 0;
  for (const auto way :
       {Names::Way::kFound, Names::Way::kUnknown, Names::Way::kNever, Names::Way::kFound}) {
    names.go(way);
    timeout_ = way == Names::Way::kNever ? 2s : 20s;
    const v1::Outcome outcome = send(server.url("up.test"));
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
    EXPECT_EQ(server.connections(), ++sent);
    EXPECT_EQ(names.asked(), asked + sent);
  }
}

TEST_F(Answers, ARefusedConnectionIsRetried) {
  expect(send("http://127.0.0.1:1"), v1::VERDICT_RETRY, v1::CAUSE_CONNECT, "127.0.0.1 port 1");
}

TEST_F(Answers, AHandshakeThatNeverEndsIsRetried) {
  ScriptedServer silent(accept);  // reads a ClientHello as the beginning of a request
  timeout_ = 1s;
  expect(send("https" + silent.url().substr(4)),
         v1::VERDICT_RETRY,
         v1::CAUSE_TIMEOUT,
         "in the TLS handshake");
}

TEST_F(Answers, AServerThatNeverAnswersIsLeftAndRetried) {
  ScriptedServer server([](const auto&) { return std::string("hang"); });
  timeout_ = 1s;
  expect(send(server.url()), v1::VERDICT_RETRY, v1::CAUSE_TIMEOUT, "while waiting for the answer");
}

TEST_F(Answers, AnAnswerThatDripsIsLeftAndRetried) {
  ScriptedServer server([](const auto&) { return "drip " + http_success(2); });
  timeout_ = 1s;
  expect(send(server.url()), v1::VERDICT_RETRY, v1::CAUSE_TIMEOUT, "while reading the answer");
}

TEST_F(Answers, AConnectionThatEndsInTheMiddleIsRetried) {
  std::string answer;
  ScriptedServer server([&](const auto&) { return answer; });
  const std::string half = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"status\":";
  for (const std::string& ending : {std::string(), "cut " + half, "reset " + half}) {
    answer = ending;
    expect(send(server.url()), v1::VERDICT_RETRY, v1::CAUSE_CONNECTION_LOST);
  }
}

TEST_F(Answers, AConnectionThatWasCutWithoutAWordIsReplaced) {
  bool strand = true;
  ScriptedServer server([&](const SeenRequest& request) {
    return (std::exchange(strand, false) ? "strand " : "") + accept(request);
  });
  EXPECT_EQ(send(server.url()).verdict(), v1::VERDICT_DELIVERED);
  timeout_ = 1s;
  expect(send(server.url()), v1::VERDICT_RETRY, v1::CAUSE_TIMEOUT);
  timeout_ = 20s;
  EXPECT_EQ(send(server.url()).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(Answers, AServerThatGoesAwayIsAskedAgainAtOnce) {
  ScriptedServer::Tls away = tls();
  away.goes_away = true;
  ScriptedServer server(accept, &away);
  destination_.ca_file = dir_ / "ca.pem";
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(Answers, ACertificateThatProvesNothingIsHeldWithTheReason) {
  const Identity stranger = make_identity("stranger", "", nullptr);

  const struct {
    Identity identity;
    v1::Cause cause;
    const char* words;
  } rows[] = {
      {make_identity("server", "IP:127.0.0.1", &stranger), v1::CAUSE_TLS, "set ca_file"},
      {make_identity("server", "IP:127.0.0.1", nullptr), v1::CAUSE_TLS, "set ca_file"},
      {make_identity("server", "DNS:other.example", &authority_), v1::CAUSE_TLS, "check url"},
      {make_identity("server", "IP:127.0.0.1", &authority_, -1), v1::CAUSE_TLS, "must renew"},
      {make_identity("server", "IP:127.0.0.1", &authority_, 9, 3), v1::CAUSE_CLOCK, "timedatectl"}};

  destination_.ca_file = dir_ / "ca.pem";
  for (const auto& row : rows) {
    const ScriptedServer::Tls tls{row.identity};
    ScriptedServer server(accept, &tls);
    const v1::Outcome outcome = send(server.url());
    expect(outcome, v1::VERDICT_HOLD, row.cause, row.words);
    EXPECT_TRUE(outcome.error().starts_with("TLS: ")) << outcome.error();
    EXPECT_TRUE(server.seen().empty());
  }
}

TEST_F(Answers, AnExpiredCertificateOnAMachineWithAWrongClockIsTheClocksFault) {
  const ScriptedServer::Tls tls{make_identity("server", "IP:127.0.0.1", &authority_, -1)};
  ScriptedServer expired(accept, &tls);
  ScriptedServer dated([](const auto&) {
    return http_answer("503 No", "", "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n");
  });
  destination_.ca_file = dir_ / "ca.pem";
  send(dated.url());
  expect(send(expired.url()), v1::VERDICT_HOLD, v1::CAUSE_CLOCK, "timedatectl");
}

TEST_F(Answers, ATlsThatIsTooOldIsHeld) {
  ScriptedServer::Tls old = tls();
  old.version_max = TLS1_1_VERSION;
  ScriptedServer server(accept, &old);
  destination_.ca_file = dir_ / "ca.pem";
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_TLS, "TLS 1.2");
}

TEST_F(Answers, ACertificateOfOursThatIsMissingOrExpiredIsHeldWithTheReason) {
  ScriptedServer::Tls wary = tls();
  wary.client_authority = &authority_;
  ScriptedServer server(accept, &wary);
  destination_.ca_file = dir_ / "ca.pem";
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_TLS, "set client_cert_file");
  show_certificate(-1);
  const v1::Outcome expired = send(server.url());
  expect(expired, v1::VERDICT_HOLD, v1::CAUSE_TLS, "client_cert_file expired on ");
  EXPECT_LT(expired.certificate_expires_unix_s() * 1000,
            static_cast<std::uint64_t>(clock_.unix_ms()));
}

TEST_F(Answers, ARenewedCertificateIsShownOnANewConnectionAndItsExpirySaid) {
  ScriptedServer::Tls wary = tls();
  wary.client_authority = &authority_;
  ScriptedServer server(accept, &wary);
  show_certificate(2);
  const auto sink = sink_to<forward::NativeSink>(server.url());
  const v1::Outcome first = send_by(*sink, lease());
  EXPECT_EQ(first.verdict(), v1::VERDICT_DELIVERED) << first.error();
  send_by(*sink, lease());
  EXPECT_EQ(server.connections(), 1);
  show_certificate(9);
  const v1::Outcome renewed = send_by(*sink, lease());
  EXPECT_EQ(renewed.verdict(), v1::VERDICT_DELIVERED) << renewed.error();
  EXPECT_EQ(server.connections(), 2);
  EXPECT_NEAR(static_cast<double>(renewed.certificate_expires_unix_s()),
              static_cast<double>(first.certificate_expires_unix_s() + 7 * 86400),
              600.0);
}

TEST_F(Answers, WhileAPairIsHalfRenewedTheLastGoodOneServes) {
  ScriptedServer::Tls wary = tls();
  wary.client_authority = &authority_;
  ScriptedServer server(accept, &wary);
  show_certificate();
  const auto sink = sink_to<forward::NativeSink>(server.url());
  EXPECT_EQ(send_by(*sink, lease()).verdict(), v1::VERDICT_DELIVERED);
  const Identity next = make_identity("client", "DNS:client", &authority_, 9);
  for (const auto& break_one : std::vector<std::function<void()>>{
           [&] { next.save(destination_.client_cert_file, dir_ / "aside.key"); },
           [&] { std::ofstream(destination_.client_cert_file) << "-----BEGIN CERT"; },
           [&] { std::filesystem::remove(destination_.client_key_file); },
           [&] { std::ofstream(destination_.ca_file) << ""; }}) {
    break_one();
    const v1::Outcome outcome = send_by(*sink, lease());
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  }
  // A start finds no good one.
  destination_.ca_file = dir_ / "other.pem";
  authority_.save(destination_.ca_file, dir_ / "ca.key");
  next.save(destination_.client_cert_file, dir_ / "aside.key");
  make_identity("client", "DNS:client", &authority_).save(dir_ / "x", destination_.client_key_file);
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_CONFIGURATION, "is not the key of");
}

TEST_F(Answers, AProxyCarriesTheRequest) {
  TunnelProxy proxy;
  const ScriptedServer::Tls secure = tls();
  ScriptedServer server(accept, &secure);
  destination_.ca_file = dir_ / "ca.pem";
  destination_.proxy = proxy.url();
  destination_.proxy_credentials_file = dir_ / "proxy";
  ASSERT_TRUE(replace_file(destination_.proxy_credentials_file, "user:pass:word\n", 0600));
  const v1::Outcome outcome = send(server.url());
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  // "user:pass:word"
  EXPECT_NE(proxy.head().find("Proxy-Authorization: Basic dXNlcjpwYXNzOndvcmQ="),
            std::string::npos);
  EXPECT_EQ(proxy.head().find(kToken), std::string::npos);
  EXPECT_EQ(server.seen().at(0).header("Proxy-Authorization"), "");
}

TEST_F(Answers, BehindAProxyTheUpstreamsFaultsStayItsOwn) {
  TunnelProxy proxy;
  const ScriptedServer::Tls expired{make_identity("server", "IP:127.0.0.1", &authority_, -1)};
  ScriptedServer server(accept, &expired);
  destination_.ca_file = dir_ / "ca.pem";
  destination_.proxy = proxy.url();
  expect(send(server.url()), v1::VERDICT_HOLD, v1::CAUSE_TLS, "must renew");
}

TEST_F(Answers, AProxyThatIsDownIsRetriedAndNamed) {
  for (const char* proxy : {"http://127.0.0.1:1", "https://127.0.0.1:1", "socks5h://127.0.0.1:1"}) {
    destination_.proxy = proxy;
    expect(send("https://up.example"), v1::VERDICT_RETRY, v1::CAUSE_PROXY, "does it run?");
  }
  destination_.proxy = "http://nowhere.test:3128";
  names.go(Names::Way::kUnknown);
  expect(send("https://up.example"), v1::VERDICT_RETRY, v1::CAUSE_PROXY, "is proxy right");
  names.go(Names::Way::kFound);
}

TEST_F(Answers, AProxyOfTheEnvironmentIsUsedAndNamedToo) {
  ScriptedServer proxy([](const auto&) { return http_answer("407 Auth", ""); });
  ASSERT_EQ(::setenv("https_proxy", proxy.url().c_str(), 1), 0);
  expect(send("https://up.example"), v1::VERDICT_HOLD, v1::CAUSE_PROXY, "proxy: status 407");
  ASSERT_EQ(::setenv("https_proxy", "http://127.0.0.1:1", 1), 0);
  expect(send("https://up.example"), v1::VERDICT_RETRY, v1::CAUSE_PROXY, "proxy: ");
  // Not on the way to this machine.
  expect(send("https://127.0.0.1:1"), v1::VERDICT_RETRY, v1::CAUSE_CONNECT);
  // The destination's own comes first.
  destination_.proxy = "http://127.0.0.1:2";
  expect(send("https://up.example"), v1::VERDICT_RETRY, v1::CAUSE_PROXY, "port 2");
  ASSERT_EQ(::unsetenv("https_proxy"), 0);
}

TEST_F(Answers, WhatIsWrongOnThisMachineIsTheConfigurations) {
  expect(send("http://192.0.2.1"), v1::VERDICT_HOLD, v1::CAUSE_CONFIGURATION, "plain http");
  destination_.proxy = "http://127.0.0.1:1";
  destination_.proxy_credentials_file = dir_ / "absent";
  expect(send("https://up.example"),
         v1::VERDICT_HOLD,
         v1::CAUSE_CONFIGURATION,
         "proxy_credentials_file: ");
  destination_.proxy_credentials_file.clear();
  destination_.secret_file = dir_ / "absent";
  expect(send("https://up.example"), v1::VERDICT_HOLD, v1::CAUSE_CONFIGURATION, "secret_file: ");
}

TEST_F(Answers, AProxyThatNeverAnswersIsRetriedAndNamed) {
  ScriptedServer proxy([](const auto&) { return std::string("hang"); });
  destination_.proxy = proxy.url();
  timeout_ = 1s;
  expect(send("https://up.example"), v1::VERDICT_RETRY, v1::CAUSE_PROXY);
}

TEST_F(Answers, AProxyThatRefusesIsNamedAndHeldUnlessItHeals) {
  const struct {
    const char* status;
    v1::Verdict verdict;
    const char* words;
  } rows[] = {{"407 Auth", v1::VERDICT_HOLD, "set proxy_credentials_file"},
              {"403 No", v1::VERDICT_HOLD, "does not let us"},
              {"503 Down", v1::VERDICT_RETRY, "cannot reach the server"}};

  for (const auto& row : rows) {
    ScriptedServer proxy([&](const auto&) { return http_answer(row.status, ""); });
    destination_.proxy = proxy.url();
    expect(send("https://up.example"), row.verdict, v1::CAUSE_PROXY, row.words);
    EXPECT_TRUE(proxy.seen().at(0).head.starts_with("CONNECT up.example:443 "));
  }
}

TEST_F(Answers, AProxyThatProvesNothingIsHeldAndNamed) {
  const ScriptedServer::Tls secure = tls();
  ScriptedServer proxy(accept, &secure);
  destination_.proxy = proxy.url();
  expect(send("https://up.example"), v1::VERDICT_HOLD, v1::CAUSE_PROXY, "ca_file");
  EXPECT_TRUE(proxy.seen().empty());
}

TEST_F(Answers, AnUpstreamMayMuteAppsWithASuccessAndWithAFailure) {
  std::string status = "200 OK";
  ScriptedServer server([&](const auto&) {
    return http_answer(status,
                       R"({"status":"success","accepted":2,"duplicates":0,"rejected":0})",
                       "telemetry-mute: mytool;s=3600\r\nTelemetry-Mute: \"7zip\";s=60, bad\r\n");
  });
  for (const auto verdict : {v1::VERDICT_DELIVERED, v1::VERDICT_RETRY, v1::VERDICT_HOLD}) {
    const v1::Outcome outcome = send(server.url());
    EXPECT_EQ(outcome.verdict(), verdict) << outcome.error();
    ASSERT_EQ(outcome.mutes_size(), 2);
    EXPECT_EQ(outcome.mutes(0).app(), "mytool");
    EXPECT_EQ(outcome.mutes(0).duration_s(), 3600u);
    EXPECT_EQ(outcome.mutes(1).app(), "7zip");
    status = verdict == v1::VERDICT_DELIVERED ? "503 Later" : "404 Gone";
  }
}

}  // namespace
}  // namespace telemetryd::test
