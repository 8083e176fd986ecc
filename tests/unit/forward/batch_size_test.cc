#include "forward/batch_size.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace telemetryd::forward {
namespace {

constexpr BatchSize::Limits kFormat{1000, 5u << 20};

TEST(BatchSize, BeginsAtTheFormatsLimits) {
  const BatchSize size(kFormat);
  EXPECT_EQ(size.events(), 1000u);
  EXPECT_EQ(size.bytes(), 5u << 20);
}

TEST(BatchSize, IsHalvedDownToOneEventAndNeverBelow) {
  BatchSize size(kFormat);
  std::size_t events = 1000;
  while (events > 1) {
    size.too_large(events, events * 160);
    EXPECT_EQ(size.events(), std::max<std::size_t>(1, events / 2));
    EXPECT_EQ(size.bytes(), events * 90);
    events = size.events();
  }
  size.too_large(1, 160);
  EXPECT_EQ(size.events(), 1u);
  EXPECT_EQ(size.bytes(), 90u);
}

TEST(BatchSize, ASmallBatchThatPassesSaysNothingAboutTheLimit) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 0; i < 10 * BatchSize::kPassesToGrow; ++i) size.passed(false);
  EXPECT_EQ(size.events(), 500u);
  EXPECT_EQ(size.bytes(), 562500u);
}

TEST(BatchSize, GrowsBackAfterManyFullBatches) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 1; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  EXPECT_EQ(size.events(), 500u);
  size.passed(true);
  EXPECT_EQ(size.events(), 625u);
  EXPECT_EQ(size.bytes(), 703125u);
  for (int i = 0; i < 2000; ++i) size.passed(true);
  EXPECT_EQ(size.events(), kFormat.events);
  EXPECT_EQ(size.bytes(), kFormat.bytes);
}

TEST(BatchSize, AFailedTryGoesBackToWhatPassedAndWaitsLonger) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  ASSERT_EQ(size.events(), 625u);
  size.too_large(625, 400000);
  EXPECT_EQ(size.events(), 500u);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  EXPECT_EQ(size.events(), 500u);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  EXPECT_EQ(size.events(), 625u);
}

TEST(BatchSize, ATryDoesNotHideThatTheKnownSizeIsTooLargeByNow) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  size.too_large(400, 300000);
  EXPECT_EQ(size.events(), 200u);
  EXPECT_EQ(size.bytes(), 168750u);
}

}  // namespace
}  // namespace telemetryd::forward
