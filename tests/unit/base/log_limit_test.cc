#include "base/log_limit.h"

#include <gtest/gtest.h>

namespace telemetryd::log {
namespace {

constexpr LineLimit::Time kStart{};

TEST(LineLimit, AFloodOfOneEventIsCutAndCountedAndHidesNoOther) {
  LineLimit limit;
  std::uint64_t written = 0;
  for (int i = 0; i < 1000; ++i) written += limit.admit("flooded", kStart) ? 1u : 0u;
  EXPECT_EQ(written, LineLimit::kLinesMax);
  EXPECT_EQ(limit.admit("other", kStart), 0u);
  EXPECT_FALSE(limit.admit("flooded", kStart + LineLimit::kWindow - std::chrono::seconds(1)));
  EXPECT_EQ(limit.admit("flooded", kStart + LineLimit::kWindow), 1000u - LineLimit::kLinesMax + 1);
  EXPECT_EQ(limit.admit("flooded", kStart + LineLimit::kWindow), 0u) << "said once";
}

}  // namespace
}  // namespace telemetryd::log
