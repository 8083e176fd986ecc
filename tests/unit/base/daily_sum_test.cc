#include "base/daily_sum.h"

#include <gtest/gtest.h>

namespace telemetryd {
namespace {

constexpr BootMs kDay = DailySum::kDayMs;
constexpr UnixMs kNoon = 1'700'000'000'000;

TEST(DailySum, ADayBeginsWithWhatComesFirst) {
  DailySum sum;
  EXPECT_EQ(sum.today(5), 0u);
  sum.add(1000, 7);
  sum.add(1000 + kDay - 1, 5);
  EXPECT_EQ(sum.today(1000 + kDay - 1), 12u);
  EXPECT_EQ(sum.ends(), 1000 + kDay);
  EXPECT_EQ(sum.today(1000 + kDay), 0u);
  sum.add(1000 + kDay + 10, 3);
  EXPECT_EQ(sum.today(1000 + kDay + 10), 3u);
  EXPECT_EQ(sum.ends(), 1010 + 2 * kDay);
}

TEST(DailySum, NothingBeginsNoDay) {
  DailySum sum;
  sum.add(1000, 0);
  sum.add(5000, 1);
  EXPECT_EQ(sum.ends(), 5000 + kDay);
}

TEST(DailySum, StopsAtTheLargestNumber) {
  DailySum sum;
  sum.add(1, UINT64_MAX - 1);
  sum.add(2, 5);
  EXPECT_EQ(sum.today(2), UINT64_MAX);
}

TEST(DailySum, GoesOnAfterARestart) {
  DailySum before;
  before.add(1000, 7);
  const UnixMs began = before.began_unix_ms(61'000, kNoon);
  EXPECT_EQ(began, kNoon - 60'000);

  const DailySum after = DailySum::restored(began, 7, 50, kNoon + 3'600'000);
  EXPECT_EQ(after.today(50), 7u);
  EXPECT_EQ(after.ends(), 50 + kDay - 3'660'000);

  EXPECT_EQ(DailySum::restored(began, 7, 50, began + kDay).today(50), 0u) << "it is over";
}

TEST(DailySum, AClockThatWentBackDoesNotMakeADayLonger) {
  const DailySum sum = DailySum::restored(kNoon + 10 * kDay, 7, 50, kNoon);
  EXPECT_EQ(sum.today(50), 7u);
  EXPECT_EQ(sum.ends(), 50 + kDay);
  EXPECT_EQ(DailySum::restored(INT64_MAX, 7, 50, kNoon).ends(), 50 + kDay);
  EXPECT_EQ(DailySum::restored(INT64_MIN, 7, 50, kNoon).today(50), 0u);
}

}  // namespace
}  // namespace telemetryd
