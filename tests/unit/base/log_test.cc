#include "base/log.h"

#include <gtest/gtest.h>

namespace telemetryd {
namespace {

TEST(Log, AValueCannotStartANewLine) {
  EXPECT_EQ(log::quoted("a\nb=\"c\""), "\"a\\x0ab=\\\"c\\\"\"");
}

TEST(Log, ALongValueIsCut) {
  EXPECT_LT(log::quoted(std::string(10000, 'x')).size(), 600u);
}

TEST(Log, LevelsHaveFourNames) {
  log::Level level{};
  EXPECT_TRUE(log::parse_level("warn", level));
  EXPECT_EQ(level, log::Level::kWarn);
  EXPECT_FALSE(log::parse_level("verbose", level));
}

}  // namespace
}  // namespace telemetryd
