#include "ingest/app_limits.h"

#include <gtest/gtest.h>

#include "support/fake_clock.h"

namespace telemetryd::ingest {
namespace {

using std::chrono::milliseconds;

TEST(AppLimits, EachAppOfEachUserHasABucketThatMayBeOverdrawn) {
  test::FakeClock clock;
  AppLimits limits(clock, 1000);
  const auto bucket = limits.bucket(1, "tool");
  EXPECT_EQ(limits.charge(bucket.get(), 1500), milliseconds(500));
  EXPECT_EQ(limits.wait(limits.bucket(1, "tool").get()), milliseconds(500))
      << "a second connection";
  EXPECT_EQ(limits.wait(limits.bucket(1, "other").get()), milliseconds(0));
  EXPECT_EQ(limits.wait(limits.bucket(2, "tool").get()), milliseconds(0));
  clock.advance(milliseconds(500));
  EXPECT_EQ(limits.wait(bucket.get()), milliseconds(0));
}

TEST(AppLimits, ReconnectingDoesNotFillTheBucketAndAFullOneIsForgotten) {
  test::FakeClock clock;
  AppLimits limits(clock, 1000);
  EXPECT_EQ(limits.charge(limits.bucket(1, "tool").get(), 3000), milliseconds(2000));
  EXPECT_EQ(limits.wait(limits.bucket(1, "tool").get()), milliseconds(2000));
  clock.advance(milliseconds(3000));
  const auto other = limits.bucket(1, "other");
  EXPECT_EQ(limits.size(), 1u);
}

TEST(AppLimits, NamesThatSomebodyMakesUpAreRememberedInABoundedNumber) {
  test::FakeClock clock;
  AppLimits limits(clock, 1);
  const auto kept = limits.bucket(1, "kept");
  for (std::size_t i = 0; i < 3 * AppLimits::kRememberedMax; ++i) {
    limits.charge(limits.bucket(1, "app" + std::to_string(i)).get(), 10);
    ASSERT_LE(limits.size(), AppLimits::kRememberedMax + 2);
  }
  EXPECT_EQ(limits.bucket(1, "kept"), kept);
}

TEST(AppLimits, WithoutALimitThereAreNoBuckets) {
  test::FakeClock clock;
  AppLimits limits(clock, 0);
  EXPECT_EQ(limits.bucket(1, "tool"), nullptr);
  EXPECT_EQ(limits.charge(nullptr, 1'000'000), milliseconds(0));
}

}  // namespace
}  // namespace telemetryd::ingest
