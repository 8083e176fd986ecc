#include "schedule/backoff.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace telemetryd::schedule {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr BackoffLimits kLimits{1000ms, 300000ms};

TEST(Backoff, CapDoublesWithEachFailureUntilTheLimit) {
  EXPECT_EQ(backoff_cap(kLimits, 1), 1s);
  EXPECT_EQ(backoff_cap(kLimits, 2), 2s);
  EXPECT_EQ(backoff_cap(kLimits, 9), 256s);
  EXPECT_EQ(backoff_cap(kLimits, 10), 300s);
  EXPECT_EQ(backoff_cap(kLimits, 4'000'000'000), 300s);
}

TEST(Backoff, NeverExceedsTheCap) {
  Prng prng(7);
  for (std::uint32_t failures = 1; failures < 2000; ++failures) {
    const milliseconds delay = backoff_delay(kLimits, failures, 0ms, prng);
    EXPECT_GE(delay, 0ms);
    EXPECT_LE(delay, backoff_cap(kLimits, failures));
  }
}

TEST(Backoff, IsSpreadOverTheWholeRange) {
  Prng prng(7);
  std::array<int, 10> buckets{};
  for (int i = 0; i < 10000; ++i) {
    const auto delay = backoff_delay(kLimits, 20, 0ms, prng).count();
    ++buckets[static_cast<std::size_t>(std::min<std::int64_t>(9, delay / 30000))];
  }
  // 1000 expected in each; nine standard deviations of room.
  for (const int count : buckets) EXPECT_NEAR(count, 1000, 270);
}

TEST(Backoff, IsNeverBeforeRetryAfter) {
  Prng prng(7);
  for (int i = 0; i < 1000; ++i) EXPECT_GE(backoff_delay(kLimits, 3, 120s, prng), 120s);
}

TEST(Backoff, ThoseWhoWereToldTheSameTimeComeSpreadAfterIt) {
  Prng prng(7);
  std::array<int, 6> buckets{};
  for (int i = 0; i < 1000; ++i) {
    const auto delay = backoff_delay(kLimits, 1, 600s, prng);
    ASSERT_GE(delay, 600s);
    ASSERT_LE(delay, 720s);
    ++buckets[static_cast<std::size_t>(std::min<std::int64_t>(5, (delay - 600s) / 20s))];
  }
  // 167 expected in each; eight standard deviations of room.
  for (const int count : buckets) EXPECT_NEAR(count, 167, 95);
}

TEST(Backoff, RetryAfterIsCappedAtOneHour) {
  Prng prng(7);
  const milliseconds delay = backoff_delay(kLimits, 3, 24h * 365, prng);
  EXPECT_GE(delay, 1h);
  EXPECT_LE(delay, backoff_bound(kLimits));
  EXPECT_EQ(backoff_bound(kLimits), 72min);
  EXPECT_GE(backoff_delay(kLimits, 3, -5s, prng), 0s);
}

TEST(Backoff, MinimumAboveTheMaximumCountsAsTheMaximum) {
  Prng prng(7);
  EXPECT_LE(backoff_delay({10s, 1s}, 5, 0ms, prng), 1s);
}

}  // namespace
}  // namespace telemetryd::schedule
