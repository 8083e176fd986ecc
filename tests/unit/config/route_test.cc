#include <gtest/gtest.h>

#include "config/config.h"
#include "config/nearest.h"

namespace telemetryd::config {
namespace {

TEST(Route, TheFirstThatMatchesDecides) {
  const std::vector<Route> routes{{"my-tool", "exact"}, {"my-*", "mine"}, {"*", "rest"}};
  EXPECT_EQ(route(routes, "my-tool"), "exact");
  EXPECT_EQ(route(routes, "my-other"), "mine");
  EXPECT_EQ(route(routes, "other"), "rest");
}

TEST(Route, AnAppThatMatchesNothingIsUnrouted) {
  EXPECT_EQ(route({{"my-*", "mine"}}, "other"), std::nullopt);
  EXPECT_EQ(route({}, "other"), std::nullopt);
}

TEST(Route, AStarIsAnyTextAnywhere) {
  const auto hit = [](const char* pattern, const char* app) {
    return route({{pattern, "d"}}, app).has_value();
  };
  EXPECT_TRUE(hit("*", ""));
  EXPECT_TRUE(hit("a*c", "ac"));
  EXPECT_TRUE(hit("a*c", "abbbc"));
  EXPECT_TRUE(hit("*b*d", "abcbd"));
  EXPECT_FALSE(hit("a*c", "acb"));
  EXPECT_FALSE(hit("", "a"));
  EXPECT_FALSE(hit("a", "ab"));
}

TEST(EditDistance, CountsSlips) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("store", "stroe"), 1u);
}

}  // namespace
}  // namespace telemetryd::config
