#include "forward/mutes.h"

#include <gtest/gtest.h>

namespace telemetryd::forward {
namespace {

std::string shown(std::string_view list) {
  std::string text;
  for (const v1::Mute& mute : parse_mutes(list)) {
    text += "[" + mute.app() + " " + std::to_string(mute.duration_s()) + "]";
  }
  return text;
}

TEST(Mutes, AreAListOfAppsWithSeconds) {
  EXPECT_EQ(shown(""), "");
  EXPECT_EQ(shown("mytool;s=3600"), "[mytool 3600]");
  EXPECT_EQ(shown("mytool;s=0"), "[mytool 0]");
  EXPECT_EQ(shown("mytool;s=3600, other;s=60"), "[mytool 3600][other 60]");
  EXPECT_EQ(shown("\"7zip\";s=60 ,\ta_b-c; s=1"), "[7zip 60][a_b-c 1]");
  EXPECT_EQ(shown("\"a, \\\"b\\\\\";s=5"), "[a, \"b\\ 5]");
  EXPECT_EQ(shown("mytool;why=\"x\";s=60;later"), "[mytool 60]");
}

TEST(Mutes, WhatIsMalformedIsLeftOutAndNothingElse) {
  for (const char* bad : {"mytool",
                          "mytool;s",
                          "mytool;s=",
                          "mytool;s=soon",
                          "mytool;s=-5",
                          "mytool;s=1.5",
                          "mytool;s=99999999999999999999",
                          "7zip;s=60",
                          ";s=60",
                          "=;s=60",
                          "my tool;s=60",
                          "mytool s=60",
                          "\"\";s=60",
                          "(a b);s=60",
                          "\"a\\x\";s=60",
                          "\"a\tb\";s=60"}) {
    EXPECT_EQ(shown(std::string(bad) + ", other;s=60"), "[other 60]") << bad;
    EXPECT_EQ(shown("other;s=60," + std::string(bad)), "[other 60]") << bad;
  }
  EXPECT_EQ(shown("other;s=60, \"open;s=5, x;s=1"), "[other 60]");
  EXPECT_EQ(shown(",,,other;s=60,,"), "[other 60]");
}

TEST(Mutes, LastADayAtMostAndAreSixtyFourAtMost) {
  EXPECT_EQ(shown("mytool;s=999999999999999"), "[mytool 86400]");
  EXPECT_EQ(shown(std::string(65, 'a') + ";s=1, b;s=1"), "[b 1]");
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "a" + std::to_string(i) + ";s=1,";
  EXPECT_EQ(parse_mutes(many).size(), kMutesMax);
  EXPECT_EQ(shown(std::string(kMuteListBytesMax, ' ') + "a;s=1"), "");
}

TEST(Mutes, OfOneAppTheLastWordCounts) {
  v1::Outcome outcome;
  add_mutes(parse_mutes("a;s=1, b;s=2"), outcome);
  add_mutes(parse_mutes("a;s=3"), outcome);
  ASSERT_EQ(outcome.mutes_size(), 2);
  EXPECT_EQ(outcome.mutes(0).duration_s(), 3u);
  for (int i = 0; i < 100; ++i) add_mutes(parse_mutes("x" + std::to_string(i) + ";s=1"), outcome);
  EXPECT_EQ(outcome.mutes_size(), static_cast<int>(kMutesMax));
}

}  // namespace
}  // namespace telemetryd::forward
