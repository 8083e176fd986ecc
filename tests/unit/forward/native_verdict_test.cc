#include "forward/native_verdict.h"

#include <gtest/gtest.h>

namespace telemetryd::forward {
namespace {

// Two rows: seq 10 with events 0 and 1, seq 11 with events 5, 6 and 7.
BatchLayout layout() {
  v1::Lease lease;
  for (const auto& [seq, first, count] :
       {std::array<std::uint32_t, 3>{10, 0, 2}, std::array<std::uint32_t, 3>{11, 5, 3}}) {
    v1::LeasedRow* row = lease.add_rows();
    row->set_seq(seq);
    row->set_first_index(first);
    row->set_count(count);
  }
  return BatchLayout(lease);
}

HttpResponse answer(long status, std::string body = "") {
  HttpResponse response;
  response.kind = HttpResponse::Kind::kAnswer;
  response.status = status;
  response.body = std::move(body);
  return response;
}

v1::Outcome judged(long status, const std::string& body = "") {
  return judge(answer(status, body), layout());
}

TEST(Verdict, SuccessInTheServersShapeIsDelivered) {
  for (const char* body :
       {R"({"status":"success","accepted":5,"duplicates":0,"rejected":0,"errors":[]})",
        R"({"status":"success","accepted":5,"duplicates":2,"rejected":0,"errors":[]})",
        R"({"status":"success","accepted":3,"duplicates":2,"rejected":0})"}) {
    EXPECT_EQ(judged(200, body).verdict(), v1::VERDICT_DELIVERED) << body;
  }
}

TEST(Verdict, RejectedEventsAreNamedByRowAndIndex) {
  const v1::Outcome outcome = judged(
      200,
      R"({"status":"success","accepted":2,"duplicates":1,"rejected":2,"errors":[)"
      R"({"index":1,"code":"invalid_event","message":"no name"},{"index":4,"code":"x","message":"y"}]})");
  ASSERT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(outcome.duplicates(), 1u);
  ASSERT_EQ(outcome.rejected_size(), 2);
  EXPECT_EQ(outcome.rejected(0).seq(), 10u);
  EXPECT_EQ(outcome.rejected(0).first_index(), 1u);
  EXPECT_EQ(outcome.rejected(0).count(), 1u);
  EXPECT_EQ(outcome.rejected(0).reason(), "invalid_event: no name");
  EXPECT_EQ(outcome.rejected(1).seq(), 11u);
  EXPECT_EQ(outcome.rejected(1).first_index(), 7u);
}

TEST(Verdict, A200ThatIsNotTheServersIsHeldAndSettlesNothing) {
  for (
      const char* body :
      {"",
       "<html>Log in to the hotel network</html>",
       "[]",
       "{}",
       R"({"status":"ok","accepted":5,"duplicates":0,"rejected":0})",
       R"({"status":"success","accepted":4,"duplicates":0,"rejected":0})",
       R"({"status":"success","accepted":-5,"duplicates":0,"rejected":0})",
       R"({"status":"success","accepted":18446744073709551615,"duplicates":6,"rejected":0})",
       R"({"status":"success","accepted":4,"duplicates":0,"rejected":1,"errors":[]})",
       R"({"status":"success","accepted":4,"duplicates":0,"rejected":1,"errors":[{"index":5}]})",
       R"({"status":"success","accepted":3,"duplicates":0,"rejected":2,"errors":[{"index":1},{"index":1}]})"}) {
    EXPECT_EQ(judged(200, body).verdict(), v1::VERDICT_HOLD) << body;
    EXPECT_EQ(judged(204, body).verdict(), v1::VERDICT_HOLD) << body;
  }
}

TEST(Verdict, WhatTimeHealsIsRetriedAndWhatNeedsAPersonIsHeld) {
  for (const long status : {408, 409, 429, 500, 502, 503, 504}) {
    EXPECT_EQ(judged(status).verdict(), v1::VERDICT_RETRY) << status;
    EXPECT_EQ(judged(status).status(), static_cast<std::uint32_t>(status));
  }
  for (const long status : {301, 302, 307, 308, 400, 401, 403, 404, 405, 407, 411, 413, 415, 418}) {
    EXPECT_EQ(judged(status).verdict(), v1::VERDICT_HOLD) << status;
    EXPECT_NE(judged(status).error().find(std::to_string(status)), std::string::npos);
  }
}

TEST(Verdict, NoAnswerIsRetriedAndFailedTlsIsHeld) {
  HttpResponse response;
  response.problem = "Connection refused";
  response.kind = HttpResponse::Kind::kNetwork;
  EXPECT_EQ(judge(response, layout()).verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(judge(response, layout()).error(), "Connection refused");
  response.kind = HttpResponse::Kind::kTooLarge;
  EXPECT_EQ(judge(response, layout()).verdict(), v1::VERDICT_RETRY);
  response.kind = HttpResponse::Kind::kTls;
  EXPECT_EQ(judge(response, layout()).verdict(), v1::VERDICT_HOLD);
}

TEST(Verdict, TheServersWaitIsTakenFromHeaderOrBodyAndCapped) {
  HttpResponse response = answer(429, R"({"error":{"code":"slow"},"retry_after":30})");
  EXPECT_EQ(judge(response, layout()).retry_after_ms(), 30000u);
  response.retry_after = std::chrono::seconds(90);
  EXPECT_EQ(judge(response, layout()).retry_after_ms(), 90000u);
  response.retry_after = std::chrono::seconds(86400);
  EXPECT_EQ(judge(response, layout()).retry_after_ms(), 3600000u);
  EXPECT_EQ(judged(503, R"({"retry_after":1e300})").retry_after_ms(), 3600000u);
  EXPECT_EQ(judged(503, R"({"retry_after":-5})").retry_after_ms(), 0u);
  EXPECT_EQ(judged(503, R"({"retry_after":"soon"})").retry_after_ms(), 0u);
}

TEST(Verdict, TheServersWordsAreShownInOneCleanLine) {
  const v1::Outcome outcome = judged(
      401, "{\"error\":{\"code\":\"unauthorized\",\"message\":\"no\\u001b[31m such\\ntoken\"}}");
  EXPECT_EQ(outcome.error(),
            "status 401 unauthorized: no [31m such token; check token_file and secret_file");
  const std::string words(5000, 'w');
  EXPECT_LE(judged(400, R"({"error":{"code":"c","message":")" + words + "\"}}").error().size(),
            kTextBytesMax);
}

TEST(Verdict, ARedirectIsNamedWithoutItsQuery) {
  HttpResponse response = answer(302);
  response.location = "https://login.example/portal?session=abc";
  const std::string error = judge(response, layout()).error();
  EXPECT_NE(error.find("https://login.example/portal;"), std::string::npos) << error;
  EXPECT_EQ(error.find("abc"), std::string::npos);
}

TEST(Verdict, NestingDeeperThanAnyAnswerOfOursIsNoSuccess) {
  const std::string deep(100000, '[');
  EXPECT_EQ(judged(200, deep + std::string(100000, ']')).verdict(), v1::VERDICT_HOLD);
}

TEST(Printable, CutsAtACharacterAndKeepsUtf8) {
  std::string text(kTextBytesMax - 1, 'a');
  EXPECT_EQ(printable(text + "\xc3\xa9"), text);
  EXPECT_EQ(printable("caf\xc3\xa9"), "caf\xc3\xa9");
  EXPECT_EQ(printable("\xff\xfe ok"), "?? ok");
}

}  // namespace
}  // namespace telemetryd::forward
