#include "base/rfc3339.h"

#include <gtest/gtest.h>

namespace telemetryd {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(Rfc3339, AnOffsetIsTakenOff) {
  EXPECT_EQ(parse_rfc3339("1970-01-01T01:00:01+01:00"), kSecond);
  EXPECT_EQ(parse_rfc3339("1969-12-31T23:00:01-01:00"), kSecond);
  EXPECT_EQ(parse_rfc3339("2026-11-20 12:00:00z"), 1'795'176'000 * kSecond);
}

TEST(Rfc3339, NineDigitsAreKeptAndTheRestIsCutOff) {
  EXPECT_EQ(parse_rfc3339("1970-01-01T00:00:00.123456789999Z"), 123'456'789u);
  EXPECT_EQ(parse_rfc3339("1970-01-01T00:00:00.5Z"), kSecond / 2);
}

TEST(Rfc3339, ALeapSecondIsTheNextMinute) {
  EXPECT_EQ(parse_rfc3339("2016-12-31T23:59:60Z"), parse_rfc3339("2017-01-01T00:00:00Z"));
}

TEST(Rfc3339, WhatIsNoTimeIsRefused) {
  for (const char* text : {"",
                           "2026-11-20",
                           "2026-11-20T12:00:00",
                           "2026-02-30T12:00:00Z",
                           "2026-13-01T00:00:00Z",
                           "2026-11-20T24:00:00Z",
                           "2026-11-20T12:00:00.Z",
                           "2026-11-20T12:00:00Zx",
                           "2026-11-20T12:00:00+0100",
                           "1969-12-31T23:59:59Z",
                           "2300-01-01T00:00:00Z",
                           "+026-11-20T12:00:00Z"}) {
    EXPECT_FALSE(parse_rfc3339(text)) << text;
  }
}

TEST(Rfc3339, SecondsAreWrittenAsTheyAreRead) {
  EXPECT_EQ(rfc3339_seconds(1'795'176'000), "2026-11-20T12:00:00Z");
  EXPECT_EQ(rfc3339_seconds(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339_nanos(1'795'176'000 * kSecond + 5), "2026-11-20T12:00:00.000000005Z");
}

}  // namespace
}  // namespace telemetryd
