#include "forward/grpc_verdict.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace telemetryd::forward {
namespace {

using namespace std::chrono_literals;
using Fate = GrpcVerdict::Fate;
using Kind = GrpcAnswer::Kind;

GrpcAnswer answer(GrpcCode code, const std::string& message = "") {
  return {.kind = Kind::kStatus, .code = code, .message = message};
}

GrpcAnswer accepted(std::string_view message = "\x08\x01") {
  GrpcAnswer made = answer(GrpcCode::kOk);
  made.body = message;
  return made;
}

GrpcAnswer without_status(Kind kind, const std::string& message) {
  return {.kind = kind, .message = message};
}

GrpcAnswer http(long status) {
  return {.kind = Kind::kForeign, .http_status = status};
}

TEST(GrpcVerdict, FollowsTheTableOfCodes) {
  const struct {
    GrpcCode code;
    Fate fate;
    v1::Cause cause;
  } rows[] = {{GrpcCode::kCancelled, Fate::kRetry, v1::CAUSE_SERVER},
              {GrpcCode::kUnknown, Fate::kRetry, v1::CAUSE_SERVER},
              {GrpcCode::kInvalidArgument, Fate::kInvalid, v1::CAUSE_BAD_REQUEST},
              {GrpcCode::kDeadlineExceeded, Fate::kRetry, v1::CAUSE_TIMEOUT},
              {GrpcCode::kNotFound, Fate::kHold, v1::CAUSE_ENDPOINT},
              {GrpcCode::kAlreadyExists, Fate::kHold, v1::CAUSE_UNEXPECTED_ANSWER},
              {GrpcCode::kPermissionDenied, Fate::kHold, v1::CAUSE_AUTHENTICATION},
              {GrpcCode::kResourceExhausted, Fate::kTooLarge, v1::CAUSE_SIZE},
              {GrpcCode::kFailedPrecondition, Fate::kHold, v1::CAUSE_UNEXPECTED_ANSWER},
              {GrpcCode::kAborted, Fate::kRetry, v1::CAUSE_SERVER},
              {GrpcCode::kOutOfRange, Fate::kRetry, v1::CAUSE_UNEXPECTED_ANSWER},
              {GrpcCode::kUnimplemented, Fate::kHold, v1::CAUSE_ENDPOINT},
              {GrpcCode::kInternal, Fate::kRetry, v1::CAUSE_SERVER},
              {GrpcCode::kUnavailable, Fate::kRetry, v1::CAUSE_SERVER},
              {GrpcCode::kDataLoss, Fate::kRetry, v1::CAUSE_SERVER},
              {GrpcCode::kUnauthenticated, Fate::kHold, v1::CAUSE_AUTHENTICATION},
              {static_cast<GrpcCode>(99), Fate::kHold, v1::CAUSE_UNEXPECTED_ANSWER}};

  for (const auto& [code, fate, cause] : rows) {
    const GrpcVerdict verdict = judge_publish(answer(code, "their words"));
    EXPECT_EQ(verdict.fate, fate) << code_name(code);
    EXPECT_EQ(verdict.cause, cause) << code_name(code);
    EXPECT_NE(verdict.words.find(code_name(code) + ": their words"), std::string::npos);
    EXPECT_EQ(verdict.code, static_cast<std::uint32_t>(code));
    EXPECT_EQ(verdict.retry_after, 0ms) << code_name(code);
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
    const GrpcVerdict verdict = judge_publish(accepted(message));
    EXPECT_EQ(verdict.fate, Fate::kHold) << to_hex(as_bytes(message));
    EXPECT_EQ(verdict.cause, v1::CAUSE_UNEXPECTED_ANSWER);
  }
}

TEST(GrpcVerdict, RetryInfoSaysWhen) {
  for (const GrpcCode code :
       {GrpcCode::kResourceExhausted, GrpcCode::kAborted, GrpcCode::kUnavailable}) {
    GrpcAnswer later = answer(code);
    later.retry_after = 2501ms;
    EXPECT_EQ(judge_publish(later).fate, Fate::kRetry) << code_name(code);
    EXPECT_EQ(judge_publish(later).retry_after, 2501ms) << code_name(code);
  }
  GrpcAnswer busy = answer(GrpcCode::kResourceExhausted);
  busy.retry_after = 1ms;
  EXPECT_EQ(judge_publish(busy).cause, v1::CAUSE_RATE_LIMIT);
  GrpcAnswer refused = answer(GrpcCode::kUnauthenticated);
  refused.retry_after = 2501ms;
  EXPECT_EQ(judge_publish(refused).fate, Fate::kHold);
  EXPECT_EQ(judge_publish(refused).retry_after, 0ms);
}

TEST(GrpcVerdict, TheNextStepIsNamed) {
  const GrpcVerdict verdict =
      judge_publish(answer(GrpcCode::kUnauthenticated, "no t\xc3\xb6ken\n100%"));
  EXPECT_EQ(verdict.words,
            "UNAUTHENTICATED: no t\xc3\xb6ken 100%; token_file must hold the token that the "
            "relay's [gateway] token_file holds");
  EXPECT_NE(
      judge_publish(answer(GrpcCode::kPermissionDenied)).words.find("telemetryctl consent status"),
      std::string::npos);
  EXPECT_NE(
      judge_publish(answer(GrpcCode::kUnimplemented)).words.find("is url a telemetryd-gateway?"),
      std::string::npos);
}

TEST(GrpcVerdict, WhatIsNoGrpcIsHeldUnlessItHeals) {
  for (const long status : {200L, 204L, 301L, 400L, 401L, 403L, 404L, 415L}) {
    const GrpcVerdict verdict = judge_publish(http(status));
    EXPECT_EQ(verdict.fate, Fate::kHold) << status;
    EXPECT_NE(verdict.words.find(std::to_string(status)), std::string::npos);
  }
  for (const long status : {408L, 425L, 429L, 500L, 502L, 503L, 504L}) {
    EXPECT_EQ(judge_publish(http(status)).fate, Fate::kRetry) << status;
  }
  const std::pair<long, v1::Cause> causes[] = {{0, v1::CAUSE_UNEXPECTED_ANSWER},
                                               {200, v1::CAUSE_CAPTIVE_PORTAL},
                                               {302, v1::CAUSE_ENDPOINT},
                                               {401, v1::CAUSE_AUTHENTICATION},
                                               {404, v1::CAUSE_ENDPOINT},
                                               {407, v1::CAUSE_PROXY},
                                               {429, v1::CAUSE_RATE_LIMIT},
                                               {503, v1::CAUSE_SERVER},
                                               {511, v1::CAUSE_CAPTIVE_PORTAL}};
  for (const auto& [status, cause] : causes) {
    EXPECT_EQ(judge_publish(http(status)).cause, cause) << status;
  }
  EXPECT_EQ(judge_publish(http(511)).fate, Fate::kHold);
  EXPECT_EQ(judge_publish(http(0)).fate, Fate::kHold);
  EXPECT_NE(judge_publish(http(0)).words.find("check url"), std::string::npos);
}

TEST(GrpcVerdict, TlsIsHeldAndAnAnswerWithoutEndIsRetried) {
  EXPECT_EQ(judge_publish(without_status(Kind::kTls, "certificate")).fate, Fate::kHold);
  EXPECT_EQ(judge_publish(without_status(Kind::kTls, "certificate")).words,
            "TLS: certificate; check ca_file, client_cert_file and client_key_file");
  EXPECT_EQ(judge_publish(without_status(Kind::kTls, "certificate")).cause, v1::CAUSE_TLS);
  EXPECT_EQ(judge_publish(without_status(Kind::kTooLarge, "larger")).fate, Fate::kRetry);
  EXPECT_EQ(judge_publish(without_status(Kind::kTooLarge, "larger")).cause,
            v1::CAUSE_UNEXPECTED_ANSWER);
}

TEST(GrpcVerdict, AConnectionThatFailedSaysWhere) {
  constexpr auto kNotConnected = "failed to connect to all addresses; last error: ";
  const std::pair<std::string, v1::Cause> rows[] = {
      {"DNS resolution failed for relay:4317: C-ares status is not ARES_SUCCESS",
       v1::CAUSE_NAME_RESOLUTION},
      {kNotConnected + std::string("UNKNOWN: Failed to connect to remote host: Connection refused"),
       v1::CAUSE_CONNECT},
      {kNotConnected + std::string("UNKNOWN: Failed to connect to remote host: No route to host"),
       v1::CAUSE_CONNECT},
      {kNotConnected + std::string("UNKNOWN: Failed to connect to remote host: Timeout occurred"),
       v1::CAUSE_TIMEOUT},
      {kNotConnected + std::string("UNAVAILABLE: Socket closed"), v1::CAUSE_CONNECTION_LOST},
      {kNotConnected + std::string("UNKNOWN: HTTP proxy returned response code 503"),
       v1::CAUSE_PROXY},
      {"Socket closed", v1::CAUSE_CONNECTION_LOST}};
  for (const auto& [words, cause] : rows) {
    const GrpcVerdict verdict = judge_publish(read_answer(GrpcCode::kUnavailable, words, ""));
    EXPECT_EQ(verdict.fate, Fate::kRetry) << words;
    EXPECT_EQ(verdict.cause, cause) << words;
  }
  for (const char* status : {"403", "407"}) {
    const std::string words =
        kNotConnected + std::string("UNKNOWN: HTTP proxy returned response code ") + status;
    const GrpcVerdict verdict = judge_publish(read_answer(GrpcCode::kUnavailable, words, ""));
    EXPECT_EQ(verdict.fate, Fate::kHold);
    EXPECT_EQ(verdict.cause, v1::CAUSE_PROXY);
    EXPECT_NE(verdict.words.find(status), std::string::npos);
  }
}

TEST(GrpcNote, PutsMutesAndExpiryBesideTheVerdict) {
  GrpcAnswer said = accepted();
  said.certificate_expires_s = 1'800'000'000;
  said.mutes.emplace_back().set_app("mytool");
  v1::Outcome outcome;
  note(said, outcome);
  EXPECT_EQ(outcome.certificate_expires_unix_s(), 1'800'000'000u);
  EXPECT_EQ(outcome.mutes_size(), 1);
}

TEST(GrpcHealth, OnlyServingIsHealthy) {
  EXPECT_TRUE(judge_health(accepted("\x08\x01")));
  EXPECT_FALSE(judge_health(accepted("\x08\x02")));
  EXPECT_FALSE(judge_health(accepted("")));
  EXPECT_FALSE(judge_health(answer(GrpcCode::kNotFound)));
  EXPECT_FALSE(judge_health(http(200)));
  EXPECT_FALSE(judge_health(without_status(Kind::kTls, "certificate")));
}

TEST(GrpcEmptyPublish, IsWelcomeWhenOnlyTheEventsAreMissing) {
  EXPECT_TRUE(judge_empty_publish(answer(GrpcCode::kInvalidArgument)));
  EXPECT_FALSE(judge_empty_publish(answer(GrpcCode::kUnauthenticated)));
  EXPECT_FALSE(judge_empty_publish(answer(GrpcCode::kUnimplemented)));
  EXPECT_FALSE(judge_empty_publish(accepted()));
  EXPECT_FALSE(judge_empty_publish(http(403)));
}

}  // namespace
}  // namespace telemetryd::forward
