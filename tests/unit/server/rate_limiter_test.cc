#include "server/rate_limiter.h"

#include <gtest/gtest.h>

namespace telemetryd::server {
namespace {

TEST(RateLimiter, CountsPerTokenAndMinute) {
  RateLimiter limiter;
  for (int i = 9; i >= 0; --i) {
    const auto state = limiter.take(1, Tier::kFree, 120);
    ASSERT_TRUE(state);
    EXPECT_TRUE(state->allowed);
    EXPECT_EQ(state->remaining, static_cast<std::uint32_t>(i));
    EXPECT_EQ(state->reset_s, 180);
  }
  EXPECT_FALSE(limiter.take(1, Tier::kFree, 179)->allowed);
  EXPECT_TRUE(limiter.take(2, Tier::kFree, 179)->allowed);
  EXPECT_TRUE(limiter.take(1, Tier::kFree, 180)->allowed);
  EXPECT_EQ(limiter.take(1, Tier::kFree, 180)->reset_s, 240);
}

TEST(RateLimiter, EachTierHasItsNumber) {
  RateLimiter limiter;
  EXPECT_EQ(limiter.take(1, Tier::kFree, 0)->limit, 10u);
  EXPECT_EQ(limiter.take(2, Tier::kPro, 0)->limit, 100u);
  EXPECT_EQ(limiter.take(3, Tier::kBusiness, 0)->limit, 1000u);
  EXPECT_FALSE(limiter.take(4, Tier::kEnterprise, 0));
  for (const char* name : {"free", "pro", "business", "enterprise"}) {
    EXPECT_EQ(tier_name(parse_tier(name).value()), name);
  }
  EXPECT_FALSE(parse_tier("Free"));
}

TEST(RateLimiter, RemembersNoMoreTokensThanItMay) {
  RateLimiter limiter;
  for (std::size_t i = 0; i < RateLimiter::kTokensMax; ++i) {
    ASSERT_TRUE(limiter.take(static_cast<std::int64_t>(i), Tier::kPro, 0)->allowed);
  }
  EXPECT_FALSE(limiter.take(-1, Tier::kPro, 0)->allowed);
  EXPECT_TRUE(limiter.take(0, Tier::kPro, 0)->allowed);
  EXPECT_TRUE(limiter.take(-1, Tier::kPro, 60)->allowed);
}

}  // namespace
}  // namespace telemetryd::server
