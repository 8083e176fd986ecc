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
  const std::vector<std::pair<GrpcCode, Fate>> cases = {
      {GrpcCode::kCancelled, Fate::kRetry},
      {GrpcCode::kUnknown, Fate::kRetry},
      {GrpcCode::kInvalidArgument, Fate::kInvalid},
      {GrpcCode::kDeadlineExceeded, Fate::kRetry},
      {GrpcCode::kNotFound, Fate::kHold},
      {GrpcCode::kAlreadyExists, Fate::kHold},
      {GrpcCode::kPermissionDenied, Fate::kHold},
      {GrpcCode::kResourceExhausted, Fate::kTooLarge},
      {GrpcCode::kFailedPrecondition, Fate::kHold},
      {GrpcCode::kAborted, Fate::kRetry},
      {GrpcCode::kOutOfRange, Fate::kHold},
      {GrpcCode::kUnimplemented, Fate::kHold},
      {GrpcCode::kInternal, Fate::kRetry},
      {GrpcCode::kUnavailable, Fate::kRetry},
      {GrpcCode::kDataLoss, Fate::kHold},
      {GrpcCode::kUnauthenticated, Fate::kHold},
      {static_cast<GrpcCode>(99), Fate::kHold}};
  for (const auto& [code, fate] : cases) {
    const GrpcVerdict verdict = judge_publish(answer(code, "their words"));
    EXPECT_EQ(verdict.fate, fate) << code_name(code);
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
    EXPECT_EQ(judge_publish(accepted(message)).fate, Fate::kHold) << to_hex(as_bytes(message));
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
  EXPECT_EQ(judge_publish(http(0)).fate, Fate::kHold);
  EXPECT_NE(judge_publish(http(0)).words.find("check url"), std::string::npos);
}

TEST(GrpcVerdict, TlsIsHeldAndAnAnswerWithoutEndIsRetried) {
  EXPECT_EQ(judge_publish(without_status(Kind::kTls, "certificate")).fate, Fate::kHold);
  EXPECT_EQ(judge_publish(without_status(Kind::kTls, "certificate")).words,
            "TLS: certificate; check ca_file, client_cert_file and client_key_file");
  EXPECT_EQ(judge_publish(without_status(Kind::kTooLarge, "larger")).fate, Fate::kRetry);
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
