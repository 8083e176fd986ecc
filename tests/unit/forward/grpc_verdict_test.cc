#include "forward/grpc_verdict.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "forward/grpc_wire.h"

namespace telemetryd::forward {
namespace {

using namespace std::chrono_literals;
using Fate = GrpcVerdict::Fate;
using Headers = std::vector<HttpHeader>;

// google.rpc.Status{code 14, details [RetryInfo{retry_delay 2.500000001 s}]}.
constexpr char kRetryInfo[] =
    "CA4aNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIAhCByrXuAQ";

HttpResponse answer(const std::string& status, const Headers& more = {}) {
  HttpResponse response;
  response.kind = HttpResponse::Kind::kAnswer;
  response.status = 200;
  response.headers = {{"content-type", "application/grpc"}, {"grpc-status", status}};
  response.headers.insert(response.headers.end(), more.begin(), more.end());
  return response;
}

HttpResponse accepted(std::string_view message = "\x08\x01") {
  HttpResponse response = answer("0");
  response.body = grpc_body(message);
  return response;
}

HttpResponse silence(HttpResponse::Kind kind, const std::string& problem) {
  HttpResponse response;
  response.kind = kind;
  response.problem = problem;
  return response;
}

HttpResponse http(long status) {
  HttpResponse response;
  response.kind = HttpResponse::Kind::kAnswer;
  response.status = status;
  response.headers = {{"content-type", "text/html"}};
  response.retry_after = 30s;
  return response;
}

TEST(GrpcVerdict, FollowsTheTableOfCodes) {
  const std::vector<std::pair<std::string, Fate>> cases = {
      {"1", Fate::kRetry},  {"2", Fate::kRetry},    {"3", Fate::kInvalid},
      {"4", Fate::kRetry},  {"5", Fate::kHold},     {"6", Fate::kHold},
      {"7", Fate::kHold},   {"8", Fate::kTooLarge}, {"9", Fate::kHold},
      {"10", Fate::kRetry}, {"11", Fate::kHold},    {"12", Fate::kHold},
      {"13", Fate::kRetry}, {"14", Fate::kRetry},   {"15", Fate::kHold},
      {"16", Fate::kHold},  {"99", Fate::kHold},    {"", Fate::kRetry},
      {"-1", Fate::kRetry}, {"14x", Fate::kRetry},  {"4294967296", Fate::kRetry}};
  for (const auto& [code, fate] : cases) {
    const GrpcVerdict verdict = judge_publish(answer(code, {{"grpc-message", "their words"}}));
    EXPECT_EQ(verdict.fate, fate) << code;
    EXPECT_FALSE(verdict.words.empty()) << code;
    EXPECT_EQ(verdict.retry_after, 0ms) << code;
  }
}

TEST(GrpcVerdict, OkNeedsTheAcknowledgementThatBelongsToIt) {
  EXPECT_EQ(judge_publish(accepted()).fate, Fate::kAccepted);
  EXPECT_EQ(judge_publish(accepted()).words, "");
  for (const std::string_view message : {std::string_view(""),
                                         std::string_view("\x08\x02"),
                                         std::string_view("\x08"),
                                         std::string_view("\x12\x00", 2),
                                         std::string_view("hello")}) {
    EXPECT_EQ(judge_publish(accepted(message)).fate, Fate::kHold) << to_hex(as_bytes(message));
  }
}

TEST(GrpcVerdict, OkNeedsAWholeMessage) {
  HttpResponse response = accepted();
  response.body.pop_back();
  EXPECT_EQ(judge_publish(response).fate, Fate::kHold);
  response = accepted();
  response.body += response.body;
  EXPECT_EQ(judge_publish(response).fate, Fate::kHold);
  response = accepted();
  response.body[0] = 1;  // compressed, which nobody asked for
  EXPECT_EQ(judge_publish(response).fate, Fate::kHold);
  response.body.clear();
  EXPECT_EQ(judge_publish(response).fate, Fate::kHold);
}

TEST(GrpcVerdict, RetryInfoSaysWhen) {
  const Headers later = {{"grpc-status-details-bin", kRetryInfo}};
  for (const char* code : {"8", "10", "14"}) {
    const GrpcVerdict verdict = judge_publish(answer(code, later));
    EXPECT_EQ(verdict.fate, Fate::kRetry) << code;
    EXPECT_EQ(verdict.retry_after, 2501ms) << code;
  }
  EXPECT_EQ(judge_publish(answer("16", later)).fate, Fate::kHold);
  EXPECT_EQ(judge_publish(answer("16", later)).retry_after, 0ms);
}

TEST(GrpcVerdict, RetryInfoThatCannotBeReadSaysNothing) {
  for (const char* details : {"", "=", "!!!!", "A", "CA4aMwoo", "////"}) {
    const GrpcVerdict verdict = judge_publish(answer("14", {{"grpc-status-details-bin", details}}));
    EXPECT_EQ(verdict.fate, Fate::kRetry) << details;
    EXPECT_EQ(verdict.retry_after, 0ms) << details;
  }
}

TEST(GrpcVerdict, RetryInfoIsCappedAtAnHour) {
  // The same with retry_delay 100000 s.
  const GrpcVerdict verdict = judge_publish(
      answer("14",
             {{"grpc-status-details-bin",
               "CA4aMgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIGCgQIoI0G"}}));
  EXPECT_EQ(verdict.retry_after, 1h);
}

TEST(GrpcVerdict, TheirWordsAreDecodedAndTheNextStepIsNamed) {
  const GrpcVerdict verdict =
      judge_publish(answer("16", {{"grpc-message", "no t%C3%B6ken%0A100%"}}));
  EXPECT_EQ(verdict.words,
            "UNAUTHENTICATED: no t\xc3\xb6ken 100%; token_file must hold the token that the "
            "relay's [gateway] token_file holds");
  EXPECT_EQ(verdict.code, 16u);
  EXPECT_NE(judge_publish(answer("7")).words.find("telemetryctl consent status"),
            std::string::npos);
  EXPECT_NE(judge_publish(answer("12")).words.find("is url a telemetryd-gateway?"),
            std::string::npos);
}

TEST(GrpcVerdict, WhatIsNoGrpcIsHeldUnlessItHeals) {
  for (const long status : {200L, 204L, 301L, 400L, 401L, 403L, 404L, 415L}) {
    const GrpcVerdict verdict = judge_publish(http(status));
    EXPECT_EQ(verdict.fate, Fate::kHold) << status;
    EXPECT_NE(verdict.words.find(std::to_string(status)), std::string::npos);
  }
  for (const long status : {408L, 425L, 429L, 500L, 502L, 503L, 504L}) {
    const GrpcVerdict verdict = judge_publish(http(status));
    EXPECT_EQ(verdict.fate, Fate::kRetry) << status;
    EXPECT_EQ(verdict.retry_after, 30s) << status;
  }
}

TEST(GrpcVerdict, WithoutAnAnswerTlsAndSettingsHoldAndWeatherIsRetried) {
  using Kind = HttpResponse::Kind;
  EXPECT_EQ(judge_publish(silence(Kind::kTls, "certificate")).fate, Fate::kHold);
  EXPECT_EQ(judge_publish(silence(Kind::kSetup, "url")).fate, Fate::kHold);
  EXPECT_EQ(judge_publish(silence(Kind::kNetwork, "refused")).fate, Fate::kRetry);
  EXPECT_EQ(judge_publish(silence(Kind::kTooLarge, "")).fate, Fate::kRetry);
  EXPECT_EQ(judge_publish(silence(Kind::kTls, "certificate")).words,
            "TLS: certificate; check ca_file, client_cert_file and client_key_file");
}

TEST(GrpcHealth, OnlyServingIsHealthy) {
  EXPECT_TRUE(judge_health(accepted("\x08\x01")));
  EXPECT_FALSE(judge_health(accepted("\x08\x02")));
  EXPECT_FALSE(judge_health(accepted("")));
  EXPECT_FALSE(judge_health(answer("5")));
  EXPECT_FALSE(judge_health(http(200)));
  EXPECT_FALSE(judge_health(silence(HttpResponse::Kind::kTls, "certificate")));
}

TEST(GrpcEmptyPublish, IsWelcomeWhenOnlyTheEventsAreMissing) {
  EXPECT_TRUE(judge_empty_publish(answer("3")));
  EXPECT_FALSE(judge_empty_publish(answer("16")));
  EXPECT_FALSE(judge_empty_publish(answer("12")));
  EXPECT_FALSE(judge_empty_publish(accepted()));
  EXPECT_FALSE(judge_empty_publish(http(403)));
}

}  // namespace
}  // namespace telemetryd::forward
