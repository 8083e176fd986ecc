#include "forward/ingest_verdict.h"

#include <gtest/gtest.h>

#include "forward/sink.h"

namespace telemetryd::forward {
namespace {

using Kind = IngestVerdict::Kind;

const std::string kA = "0193a0b1-c2d3-7123-8123-00000000000a";
const std::string kB = "0193a0b1-c2d3-7123-8123-00000000000b";
const std::string kC = "0193a0b1-c2d3-7123-8123-00000000000c";

std::vector<kit::WrittenEvent> three() {
  return {{kA, "{}"}, {kB, "{}"}, {kC, "{}"}};
}

HttpResponse answer(long status, std::string body = "") {
  HttpResponse response;
  response.kind = HttpResponse::Kind::kAnswer;
  response.status = status;
  response.body = std::move(body);
  return response;
}

IngestVerdict judged(long status, std::string body = "", std::uint32_t tries = 1) {
  return judge_ingest(answer(status, std::move(body)), three(), tries);
}

std::string error(const std::string& id, const std::string& code) {
  return R"({"event_id":")" + id + R"(","error":")" + code + R"(","message":"why"})";
}

std::string result(const std::string& status,
                   int accepted,
                   int rejected,
                   const std::string& errors = "") {
  return R"({"status":")" + status + R"(","accepted":)" + std::to_string(accepted) +
         R"(,"rejected":)" + std::to_string(rejected) + R"(,"message":"m","errors":[)" + errors +
         "]}";
}

// docs/formats/ingest.md, "What an answer means for the forwarder", a row each.
TEST(IngestVerdict, EveryRowOfTheTable) {
  struct Row {
    long status;
    std::string body;
    Kind kind;
    bool too_large = false;
  };

  const std::string nested = R"({"error":{"code":"bad_request","message":"no"}})";
  const std::vector<Row> rows = {
      {200, result("success", 3, 0), Kind::kTaken},
      {200, R"({"status":"success","accepted":3,"rejected":0,"message":"ok"})", Kind::kTaken},
      {200, R"({"accepted":3,"rejected":0,"errors":[]})", Kind::kTaken},
      {204, "", Kind::kTaken},
      {207, result("partial", 2, 1, error(kB, "duplicate")), Kind::kTaken},
      {207, result("partial", 2, 1, error(kB, "invalid_schema")), Kind::kTaken},
      {207, result("partial", 2, 1, error(kB, "database_error")), Kind::kRetry},
      {207, result("partial", 2, 1, error("elsewhere", "invalid_schema")), Kind::kRetry},
      {400,
       R"({"error":"bad_request","message":"none","errors":[)" + error(kA, "duplicate") + "," +
           error(kB, "duplicate") + "," + error(kC, "duplicate") + "]}",
       Kind::kTaken},
      {400, nested, Kind::kDivide},
      {400, "", Kind::kDivide},
      {422, nested, Kind::kDivide},
      {400, R"({"error":"bad_request","message":"Batch size exceeds 100"})", Kind::kDivide, true},
      {400, R"({"error":{"code":"too_large","message":"Too many events"}})", Kind::kDivide, true},
      {400, R"({"error":"bad_request","message":"Batch size mismatch"})", Kind::kDivide},
      {413, "", Kind::kDivide, true},
      {413, nested, Kind::kDivide, true},
      {301, "", Kind::kHold},
      {302, "", Kind::kHold},
      {308, "", Kind::kHold},
      {401, nested, Kind::kHold},
      {403, R"({"error":"Forbidden","message":"no"})", Kind::kHold},
      {404, "<html>", Kind::kHold},
      {405, "", Kind::kHold},
      {407, "", Kind::kHold},
      {415, "", Kind::kHold},
      {418, "", Kind::kHold},
      {201, result("success", 3, 0), Kind::kHold},
      {202, "", Kind::kHold},
      {408, "", Kind::kRetry},
      {409, nested, Kind::kRetry},
      {425, "", Kind::kRetry},
      {429, "", Kind::kRetry},
      {500, "", Kind::kRetry},
      {502, "<html>", Kind::kRetry},
      {503, "", Kind::kRetry},
      {504, "", Kind::kRetry}};
  for (const Row& row : rows) {
    const IngestVerdict verdict = judged(row.status, row.body);
    EXPECT_EQ(verdict.kind, row.kind) << row.status << " " << row.body << " " << verdict.words;
    EXPECT_EQ(verdict.too_large, row.too_large) << row.status << " " << row.body;
    EXPECT_EQ(verdict.words.empty(), row.kind == Kind::kTaken) << row.status;
  }
}

TEST(IngestVerdict, NoAnswerIsRetriedAndFailedTlsIsHeld) {
  HttpResponse response;
  response.problem = "Connection refused";
  for (const auto& [kind, expected] : {std::pair(HttpResponse::Kind::kNetwork, Kind::kRetry),
                                       std::pair(HttpResponse::Kind::kTooLarge, Kind::kRetry),
                                       std::pair(HttpResponse::Kind::kTls, Kind::kHold),
                                       std::pair(HttpResponse::Kind::kSetup, Kind::kHold)}) {
    response.kind = kind;
    EXPECT_EQ(judge_ingest(response, three(), 1).kind, expected);
  }
}

TEST(IngestVerdict, EachEventHasItsOwnFate) {
  const IngestVerdict verdict = judged(
      207, result("partial", 1, 2, error(kC, "invalid_schema") + "," + error(kA, "duplicate")));
  ASSERT_EQ(verdict.kind, Kind::kTaken);
  EXPECT_EQ(verdict.duplicates, 1u);
  ASSERT_EQ(verdict.refused.size(), 1u);
  EXPECT_EQ(verdict.refused[0].event, 2u);
  EXPECT_EQ(verdict.refused[0].reason, "invalid_schema: why");
}

TEST(IngestVerdict, WhenAllAreRefusedByTheirIdsEachIsNamed) {
  const std::string all =
      error(kA, "invalid_schema") + "," + error(kB, "x") + "," + error(kC, "duplicate");
  for (const std::string& head :
       {std::string(R"("accepted":0,)"), std::string(R"("status":"error",)"), std::string()}) {
    for (const long status : {400, 422}) {
      const IngestVerdict verdict = judged(status, "{" + head + R"("errors":[)" + all + "]}");
      ASSERT_EQ(verdict.kind, Kind::kTaken) << head;
      EXPECT_EQ(verdict.refused.size(), 2u);
      EXPECT_EQ(verdict.duplicates, 1u);
    }
  }
}

TEST(IngestVerdict, ASuccessThatDoesNotAddUpIsHeldAndSettlesNothing) {
  const std::string one = error(kB, "invalid_schema");
  const std::vector<std::string> bodies = {
      "",
      "<html>Log in to the hotel network</html>",
      "[]",
      "{}",
      "3",
      R"({"status":"ok"})",
      R"({"status":"success"})",
      R"({"status":"success","accepted":3})",
      R"({"status":"success","rejected":0})",
      R"({"status":"success","accepted":"3","rejected":0})",
      R"({"status":"success","accepted":-3,"rejected":0})",
      R"({"status":"success","accepted":18446744073709551615,"rejected":4})",
      R"({"accepted":2,"rejected":0,"errors":[]})",
      R"({"accepted":0,"rejected":0})",
      result("success", 4, 0),
      result("error", 3, 0),
      result("partial", 2, 1),
      result("partial", 3, 1, one),
      result("partial", 2, 0, one),
      result("partial", 1, 2, one + "," + one),
      result("partial", 2, 1, "7"),
      result("partial", 0, 4, one + "," + one + "," + one + "," + one),
      std::string(100000, '[') + std::string(100000, ']')};
  for (const std::string& body : bodies) {
    for (const long status : {200, 207}) {
      EXPECT_EQ(judged(status, body).kind, Kind::kHold) << body.substr(0, 200);
    }
  }
}

TEST(IngestVerdict, ARefusalOfAllThatDoesNotAddUpIsDividedAndSettlesNothing) {
  const std::string two = error(kA, "invalid_schema") + "," + error(kB, "duplicate");
  for (const std::string& body : {R"({"errors":[)" + two + "]}",
                                  R"({"accepted":1,"errors":[)" + two + "]}",
                                  R"({"accepted":1,"errors":[)" + two + "," + error(kC, "x") + "]}",
                                  std::string(R"({"errors":[]})"),
                                  std::string(R"({"errors":["too few fields"]})")}) {
    const IngestVerdict verdict = judged(400, body);
    EXPECT_EQ(verdict.kind, Kind::kDivide) << body;
    EXPECT_TRUE(verdict.refused.empty());
  }
}

TEST(IngestVerdict, OneIdThatWasSentTwiceMayBeRefusedTwice) {
  const std::vector<kit::WrittenEvent> twins = {{kA, "{}"}, {kA, "{}"}, {kB, "{}"}};
  const auto judge = [&](const std::string& body) {
    return judge_ingest(answer(207, body), twins, 1);
  };
  const IngestVerdict last = judge(result("partial", 2, 1, error(kA, "invalid_schema")));
  ASSERT_EQ(last.refused.size(), 1u);
  EXPECT_EQ(last.refused[0].event, 1u);
  const IngestVerdict both =
      judge(result("partial", 1, 2, error(kA, "duplicate") + "," + error(kA, "x")));
  EXPECT_EQ(both.kind, Kind::kTaken);
  EXPECT_EQ(both.refused.at(0).event, 0u);
  EXPECT_EQ(
      judge(result("partial", 0, 3, error(kA, "x") + "," + error(kA, "x") + "," + error(kA, "x")))
          .kind,
      Kind::kHold);
}

TEST(IngestVerdict, OfTwoEventsWithOneIdTheIndexSaysWhich) {
  const std::vector<kit::WrittenEvent> twins = {{kA, "{}"}, {kA, "{}"}, {kB, "{}"}};
  const auto entry = [](const std::string& index, const std::string& code) {
    return R"({"event_id":")" + kA + R"(","error":")" + code + R"(","index":)" + index + "}";
  };
  const auto refused = [&](int accepted, const std::string& errors) {
    std::vector<std::size_t> events;
    const std::string body = result("partial", accepted, 3 - accepted, errors);
    for (const auto& one : judge_ingest(answer(207, body), twins, 1).refused) {
      events.push_back(one.event);
    }
    return events;
  };
  using Events = std::vector<std::size_t>;
  EXPECT_EQ(refused(2, entry("0", "invalid_schema")), Events{0});
  EXPECT_EQ(refused(2, entry("1", "invalid_schema")), Events{1});
  EXPECT_EQ(refused(1, entry("0", "invalid_schema") + "," + entry("1", "duplicate")), Events{0});
  EXPECT_EQ(refused(1, entry("0", "invalid_schema") + "," + entry("0", "x")), (Events{0, 1}));
  // An index that cannot be meant leaves the ID.
  for (const char* index : {"2", "7", "-1", "18446744073709551615", "0.5", "\"0\"", "null"}) {
    EXPECT_EQ(refused(2, entry(index, "invalid_schema")), Events{1}) << index;
  }
}

TEST(IngestVerdict, WhatAServerNeitherAcceptedNorRejectedItHadAlready) {
  const std::string one = error(kB, "invalid_schema");
  const auto duplicates = [](const std::string& body) {
    const IngestVerdict verdict = judged(200, body);
    EXPECT_EQ(verdict.kind, Kind::kTaken) << body;
    return verdict.duplicates;
  };
  EXPECT_EQ(duplicates(result("success", 2, 0)), 1u);
  EXPECT_EQ(duplicates(result("success", 0, 0)), 3u);
  EXPECT_EQ(duplicates(result("partial", 1, 1, one)), 1u);
  EXPECT_EQ(duplicates(result("partial", 1, 1, error(kB, "duplicate"))), 2u);
  EXPECT_EQ(judged(207, result("partial", 1, 1, one)).refused.at(0).event, 1u);
}

TEST(IngestVerdict, AnEventIsFoundByItsIdInEitherCase) {
  std::string upper = kB;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const IngestVerdict verdict = judged(207, result("partial", 2, 1, error(upper, "x")));
  ASSERT_EQ(verdict.refused.size(), 1u);
  EXPECT_EQ(verdict.refused[0].event, 1u);
}

TEST(IngestVerdict, WhatTheServerCannotStoreIsRefusedInTheEndIfItStoresOthers) {
  const std::string some = result("partial", 2, 1, error(kB, "database_error"));
  EXPECT_EQ(judged(207, some, kUnstorableTries - 1).kind, Kind::kRetry);
  const IngestVerdict verdict = judged(207, some, kUnstorableTries);
  ASSERT_EQ(verdict.kind, Kind::kTaken);
  EXPECT_EQ(verdict.refused.at(0).event, 1u);

  const std::string all = R"({"errors":[)" + error(kA, "database_error") + "," +
                          error(kB, "database_error") + "," + error(kC, "database_error") + "]}";
  EXPECT_EQ(judged(400, all, 1000).kind, Kind::kRetry);
}

TEST(IngestVerdict, TheLargerWaitCountsUpToAnHour) {
  HttpResponse response =
      answer(429, R"({"error":"rate_limit_exceeded","message":"slow","retry_after":30})");
  EXPECT_EQ(judge_ingest(response, three(), 1).retry_after, std::chrono::seconds(30));
  response.retry_after = std::chrono::seconds(90);
  EXPECT_EQ(judge_ingest(response, three(), 1).retry_after, std::chrono::seconds(90));
  response.retry_after = std::chrono::seconds(86400);
  EXPECT_EQ(judge_ingest(response, three(), 1).retry_after, std::chrono::hours(1));
}

TEST(IngestVerdict, TheServersWordsAreReadNestedFlatOrNotAtAll) {
  EXPECT_EQ(judged(403, R"({"error":{"code":"forbidden","message":"other path"}})").words,
            "status 403 forbidden: other path; check the token's rights for org and app, and this "
            "machine's clock");
  EXPECT_EQ(judged(415, R"({"error":"Unsupported","message":"no\u001b[31m"})").words,
            "status 415 Unsupported: no [31m");
  EXPECT_EQ(judged(415, R"({"error":"Unsupported"})").words, "status 415 Unsupported");
  EXPECT_EQ(judged(415, R"({"error":7})").words, "status 415");
  EXPECT_EQ(judged(415, "teapot").words, "status 415");
  EXPECT_LE(judged(400, R"({"error":")" + std::string(5000, 'w') + "\"}").words.size(),
            kTextBytesMax);
}

TEST(IngestVerdict, WhatIsNotTakenHasACause) {
  const std::string both = error(kA, "duplicate") + "," + error(kB, "database_error");
  const std::string stranger = error("0193a0b1-c2d3-7123-8123-0000000000ff", "duplicate");

  const struct {
    IngestVerdict verdict;
    Kind kind;
    v1::Cause cause;
  } rows[] = {
      {judged(207, result("partial", 1, 2, both)), Kind::kRetry, v1::CAUSE_SERVER},
      {judged(207, result("partial", 2, 1, stranger)), Kind::kRetry, v1::CAUSE_UNEXPECTED_ANSWER},
      {judged(200, "{}"), Kind::kHold, v1::CAUSE_UNEXPECTED_ANSWER},
      {judged(200, "<html>"), Kind::kHold, v1::CAUSE_CAPTIVE_PORTAL},
      {judged(400), Kind::kDivide, v1::CAUSE_BAD_REQUEST},
      {judged(400, "too many events"), Kind::kDivide, v1::CAUSE_SIZE},
      {judged(413), Kind::kDivide, v1::CAUSE_SIZE},
      {judged(422), Kind::kDivide, v1::CAUSE_BAD_REQUEST},
      {judged(401), Kind::kHold, v1::CAUSE_AUTHENTICATION},
      {judged(429), Kind::kRetry, v1::CAUSE_RATE_LIMIT},
      {judged(511), Kind::kHold, v1::CAUSE_CAPTIVE_PORTAL}};

  for (const auto& row : rows) {
    EXPECT_EQ(row.verdict.kind, row.kind) << row.verdict.words;
    EXPECT_EQ(row.verdict.cause, row.cause) << row.verdict.words;
  }
}

}  // namespace
}  // namespace telemetryd::forward
