#include "forward/answer.h"

#include <gtest/gtest.h>

namespace telemetryd::forward {
namespace {

HttpResponse answer(long status, std::string body = "", std::string content_type = "") {
  HttpResponse response;
  response.kind = HttpResponse::Kind::kAnswer;
  response.status = status;
  response.body = std::move(body);
  response.content_type = std::move(content_type);
  return response;
}

std::string_view no_advice(long) {
  return "";
}

TEST(AnswerCause, FollowsTheTableOfStatuses) {
  const std::pair<long, v1::Cause> rows[] = {{101, v1::CAUSE_UNEXPECTED_ANSWER},
                                             {200, v1::CAUSE_UNEXPECTED_ANSWER},
                                             {204, v1::CAUSE_UNEXPECTED_ANSWER},
                                             {206, v1::CAUSE_UNEXPECTED_ANSWER},
                                             {301, v1::CAUSE_ENDPOINT},
                                             {302, v1::CAUSE_ENDPOINT},
                                             {303, v1::CAUSE_ENDPOINT},
                                             {307, v1::CAUSE_ENDPOINT},
                                             {308, v1::CAUSE_ENDPOINT},
                                             {400, v1::CAUSE_BAD_REQUEST},
                                             {401, v1::CAUSE_AUTHENTICATION},
                                             {403, v1::CAUSE_AUTHENTICATION},
                                             {404, v1::CAUSE_ENDPOINT},
                                             {405, v1::CAUSE_ENDPOINT},
                                             {407, v1::CAUSE_PROXY},
                                             {408, v1::CAUSE_TIMEOUT},
                                             {409, v1::CAUSE_UNEXPECTED_ANSWER},
                                             {410, v1::CAUSE_ENDPOINT},
                                             {411, v1::CAUSE_BAD_REQUEST},
                                             {413, v1::CAUSE_SIZE},
                                             {415, v1::CAUSE_ENDPOINT},
                                             {418, v1::CAUSE_UNEXPECTED_ANSWER},
                                             {422, v1::CAUSE_BAD_REQUEST},
                                             {425, v1::CAUSE_UNEXPECTED_ANSWER},
                                             {429, v1::CAUSE_RATE_LIMIT},
                                             {431, v1::CAUSE_BAD_REQUEST},
                                             {500, v1::CAUSE_SERVER},
                                             {502, v1::CAUSE_SERVER},
                                             {503, v1::CAUSE_SERVER},
                                             {504, v1::CAUSE_SERVER},
                                             {511, v1::CAUSE_CAPTIVE_PORTAL},
                                             {599, v1::CAUSE_SERVER}};
  for (const auto& [status, cause] : rows) EXPECT_EQ(cause_of(answer(status)), cause) << status;
}

TEST(AnswerCause, AWebPageIsACaptivePortals) {
  EXPECT_EQ(cause_of(answer(200, "", "text/html; charset=utf-8")), v1::CAUSE_CAPTIVE_PORTAL);
  EXPECT_EQ(cause_of(answer(200, " \n<!DOCTYPE html>")), v1::CAUSE_CAPTIVE_PORTAL);
  EXPECT_EQ(cause_of(answer(200, "{}", "application/json")), v1::CAUSE_UNEXPECTED_ANSWER);
  HttpResponse login = answer(302, "<html>", "text/html");
  EXPECT_EQ(cause_of(login), v1::CAUSE_ENDPOINT);
  login.elsewhere = true;
  EXPECT_EQ(cause_of(login), v1::CAUSE_CAPTIVE_PORTAL);
  EXPECT_NE(describe(login, no_advice).find("wants a login"), std::string::npos);
}

TEST(AnswerCause, ARefusalBesideAClockThatIsOffIsTheClocks) {
  for (const long status : {401L, 403L}) {
    HttpResponse refused = answer(status);
    refused.clock_ahead = std::chrono::seconds(600);
    EXPECT_EQ(cause_of(refused), v1::CAUSE_AUTHENTICATION);
    refused.clock_ahead = std::chrono::seconds(-7300);
    EXPECT_EQ(cause_of(refused), v1::CAUSE_CLOCK);
    EXPECT_NE(describe(refused, no_advice).find("this machine's clock is 2 h behind the server's"),
              std::string::npos);
  }
}

TEST(AnswerCause, WithoutAnAnswerItIsTheTransfers) {
  HttpResponse response;
  response.cause = v1::CAUSE_CONNECT;
  EXPECT_EQ(cause_of(response), v1::CAUSE_CONNECT);
}

TEST(AnswerNote, PutsMutesAndExpiryBesideTheVerdict) {
  HttpResponse response = answer(200);
  v1::Outcome outcome;
  note(response, outcome);
  EXPECT_EQ(outcome.certificate_expires_unix_s(), 0u);
  response.certificate_expires_s = 1'800'000'000;
  response.mutes.emplace_back().set_app("mytool");
  note(response, outcome);
  EXPECT_EQ(outcome.certificate_expires_unix_s(), 1'800'000'000u);
  EXPECT_EQ(outcome.mutes_size(), 1);
}

}  // namespace
}  // namespace telemetryd::forward
