#include "ctl/import_line.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace telemetryd::ctl {
namespace {

constexpr LineDefaults kDefaults{1'700'000'000'000'000'000u, 0};

nlohmann::json as_json(const ImportedEvent& event) {
  const auto json = event::to_json(event.bytes, "");
  EXPECT_TRUE(json) << json.error().message();
  return json.value_or(nlohmann::json());
}

std::string problem_of(std::string_view line) {
  const auto event = parse_line(line, kDefaults);
  return event ? "accepted" : event.error().message();
}

TEST(ImportLine, EveryMemberArrivesInTheEvent) {
  const nlohmann::json line = {{"id", "01890a5d-ac96-774b-bcce-b302099a8057"},
                               {"kind", "command"},
                               {"name", "build"},
                               {"category", "ci"},
                               {"time", "2026-11-20T12:00:00.000000001Z"},
                               {"severity", 9},
                               {"urgency", "urgent"},
                               {"class", "critical"},
                               {"session_id", "000102030405060708090a0b0c0d0e0f"},
                               {"user_id", "u"},
                               {"success", false},
                               {"duration_ms", 1.5},
                               {"exit_code", -1},
                               {"attributes", {{"s", "x"}, {"b", true}, {"i", -5}, {"d", 2.5}}},
                               {"error", {{"name", "E"}, {"message", "m"}}},
                               {"source", "relay"}};
  const auto event = parse_line(line.dump(), kDefaults);
  ASSERT_TRUE(event) << event.error().message();
  EXPECT_EQ(as_json(*event), line);
  EXPECT_EQ(event->urgency, event::Urgency::kUrgent);
  EXPECT_EQ(event->persistence_class, event::Class::kCritical);
}

TEST(ImportLine, IntegersKeepAllTheirBits) {
  const auto event = parse_line(R"({"name":"x","attributes":{"n":9007199254740993}})", kDefaults);
  ASSERT_TRUE(event);
  EXPECT_EQ(as_json(*event)["attributes"]["n"], 9007199254740993);
}

TEST(ImportLine, AnEventWithoutATimeHappensNow) {
  const auto event = parse_line(R"({"name":"x"})", kDefaults);
  ASSERT_TRUE(event);
  EXPECT_EQ(as_json(*event)["time"], "2023-11-14T22:13:20.000000000Z");
}

TEST(ImportLine, SecondsSinceTheEpochAreATime) {
  const auto event = parse_line(R"({"name":"x","time":1700000000.5})", kDefaults);
  ASSERT_TRUE(event);
  EXPECT_EQ(as_json(*event)["time"], "2023-11-14T22:13:20.500000000Z");
}

TEST(ImportLine, WhatTheContextSaysIsIgnored) {
  EXPECT_EQ(problem_of(R"({"name":"x","app":"other","machine_id":"00","seq":4,"state":"queued"})"),
            "accepted");
}

TEST(ImportLine, AMisspeltMemberIsNamed) {
  EXPECT_EQ(problem_of(R"({"name":"x","atributes":{}})"), "unknown member 'atributes'");
  EXPECT_EQ(problem_of(R"({"name":"x","atributes":null})"), "unknown member 'atributes'");
  EXPECT_EQ(problem_of(R"({"name":"x","error":{"code ":"1"}})"), "unknown member 'error.code '");
}

TEST(ImportLine, NullIsAbsent) {
  EXPECT_EQ(problem_of(R"({"name":"x","category":null,"attributes":{"a":null}})"), "accepted");
  EXPECT_EQ(problem_of(R"({"name":null})"), "'name' is missing");
}

TEST(ImportLine, AWrongTypeIsSaidWithItsMember) {
  EXPECT_NE(problem_of(R"({"name":7})").find("'name' must be a string"), std::string::npos);
  EXPECT_NE(problem_of(R"({"name":"x","severity":25})").find("'severity'"), std::string::npos);
  EXPECT_NE(problem_of(R"({"name":"x","exit_code":2147483648})").find("'exit_code'"),
            std::string::npos);
  EXPECT_NE(problem_of(R"({"name":"x","time":"yesterday"})").find("RFC 3339"), std::string::npos);
  EXPECT_NE(problem_of(R"({"name":"x","time":-1})").find("RFC 3339"), std::string::npos);
  EXPECT_NE(problem_of(R"({"name":"x","attributes":{"a":[1]}})").find("attribute 'a'"),
            std::string::npos);
  EXPECT_NE(problem_of(R"({"name":"x","attributes":{"a":18446744073709551615}})").find("a"),
            std::string::npos);
  EXPECT_NE(problem_of(R"({"name":"x","id":"7"})").find("'id' must be 32 hex"), std::string::npos);
}

TEST(ImportLine, WhatIsNotAnObjectIsRefused) {
  for (const char* line : {"", "x", "[]", "7", "{\"name\":\"x\"", "{\"name\":\"\xff\"}"}) {
    EXPECT_NE(problem_of(line), "accepted") << line;
  }
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_NE(problem_of(deep), "accepted");
}

TEST(ImportLine, TheSameLineGetsTheSameIdAndARepeatedOneAnother) {
  constexpr std::string_view kLine = R"({"name":"x","time":"2026-11-20T12:00:00Z"})";
  const auto first = parse_line(kLine, {1, 0});
  const auto again = parse_line(kLine, {2, 0});
  const auto repeated = parse_line(kLine, {1, 1});
  ASSERT_TRUE(first && again && repeated);
  EXPECT_EQ(first->bytes, again->bytes);
  EXPECT_NE(*event::id_of(first->bytes), *event::id_of(repeated->bytes));
}

TEST(ImportLine, ADerivedIdIsAUuidOfVersionSevenWithTheTimeOfTheEvent) {
  const auto event = parse_line(R"({"name":"x","time":"2026-11-20T12:00:00Z"})", kDefaults);
  ASSERT_TRUE(event);
  const Bytes16 id = *event::id_of(event->bytes);
  EXPECT_EQ(id[6] >> 4, 7);
  EXPECT_EQ(id[8] >> 6, 2);
  std::uint64_t milliseconds = 0;
  for (std::size_t i = 0; i < 6; ++i) milliseconds = milliseconds << 8 | id[i];
  EXPECT_EQ(milliseconds, 1'795'176'000'000u);
}

TEST(ImportLine, WithoutATimeTheIdDoesNotDependOnTheClock) {
  const auto today = parse_line(R"({"name":"x"})", {1'700'000'000'000'000'000u, 0});
  const auto later = parse_line(R"({"name":"x"})", {1'800'000'000'000'000'000u, 0});
  ASSERT_TRUE(today && later);
  EXPECT_EQ(*event::id_of(today->bytes), *event::id_of(later->bytes));
}

}  // namespace
}  // namespace telemetryd::ctl
