#include "schedule/mutes.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace telemetryd::schedule {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr UnixMs kNoon = 1'700'000'000'000;

TEST(Mutes, LastAsLongAsWasAskedButADayAtMost) {
  Mutes mutes;
  mutes.mute("a", 60s, 0);
  mutes.mute("b", 24h * 365, 0);
  EXPECT_TRUE(mutes.contains("a", 59999));
  EXPECT_FALSE(mutes.contains("a", 60000));
  EXPECT_EQ(mutes.next_end(), 60000);
  EXPECT_TRUE(mutes.expire(60000));
  EXPECT_FALSE(mutes.expire(60000));
  EXPECT_TRUE(mutes.contains("b", 86399999));
  EXPECT_FALSE(mutes.contains("b", 86400000));
}

TEST(Mutes, TheLastWordCounts) {
  Mutes mutes;
  mutes.mute("a", 3600s, 0);
  mutes.mute("a", 60s, 0);
  EXPECT_FALSE(mutes.contains("a", 60000));
  mutes.mute("a", 3600s, 60000);
  mutes.mute("a", 0s, 60000);
  EXPECT_FALSE(mutes.contains("a", 60001));
  EXPECT_FALSE(mutes.next_end());
}

TEST(Mutes, AreBounded) {
  Mutes mutes;
  for (std::size_t i = 0; i < Mutes::kAppsMax; ++i) mutes.mute(std::to_string(i), 60s, 0);
  mutes.mute("one more", 60s, 0);
  EXPECT_FALSE(mutes.contains("one more", 1));
  EXPECT_TRUE(mutes.contains("0", 1));
}

TEST(Mutes, SurviveARestartAndAWrongClock) {
  Mutes before;
  before.mute("a", 3600s, 5000);
  json state;
  before.persist(state, 5000, kNoon);

  Mutes later;
  later.restore(state, 0, kNoon + 600'000);
  EXPECT_TRUE(later.contains("a", 2'999'999));
  EXPECT_FALSE(later.contains("a", 3'000'000));

  Mutes over;
  over.restore(state, 0, kNoon + 3'600'000);
  EXPECT_FALSE(over.contains("a", 0));

  Mutes years_back;
  years_back.restore(state, 0, 0);
  EXPECT_TRUE(years_back.contains("a", 0));
  EXPECT_FALSE(years_back.contains("a", 86'400'000)) << "no clock makes it longer than a day";

  Mutes damaged;
  damaged.restore(
      {{"mutes_until_unix_ms", {{"a", "soon"}, {"b", -9223372036854775807 - 1}}}}, 0, kNoon);
  EXPECT_TRUE(damaged.until().empty());
}

}  // namespace
}  // namespace telemetryd::schedule
