#include "app/descriptors.h"

#include <gtest/gtest.h>

namespace telemetryd::app {
namespace {

TEST(Descriptors, LeaveRoomForEverythingButConnections) {
  EXPECT_EQ(connections_that_fit(4096), (4096u - 192) / 2);
  EXPECT_EQ(connections_that_fit(1024), 416u);
}

TEST(Descriptors, HalfOfFewIsForConnections) {
  EXPECT_EQ(connections_that_fit(80), 20u);
  EXPECT_EQ(connections_that_fit(0), 1u);
}

TEST(Descriptors, ManyAreNoProblem) {
  EXPECT_EQ(connections_that_fit(UINT64_MAX), UINT32_MAX);
}

}  // namespace
}  // namespace telemetryd::app
