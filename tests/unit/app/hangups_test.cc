#include "app/hangups.h"

#include <chrono>

#include <gtest/gtest.h>

namespace telemetryd::app {
namespace {

class HangupsTest : public testing::Test {
 protected:
  void serve_until(const std::function<bool()>& happened) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!happened()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it never happened";
      loop.poll();
    }
  }

  loop::Loop loop;
  int reloads = 0;
  Hangups hangups{loop, std::chrono::milliseconds(20), [this] { ++reloads; }};
};

TEST_F(HangupsTest, TheFirstReloadsAtOnceAndAStormOnceMore) {
  hangups.heard();
  EXPECT_EQ(reloads, 1);
  for (int i = 0; i < 1000; ++i) hangups.heard();
  EXPECT_EQ(reloads, 1);
  serve_until([&] { return reloads == 2; });
  bool later = false;
  loop::Timer timer(loop, [&] { later = true; });
  timer.start_once(std::chrono::milliseconds(50));
  serve_until([&] { return later; });
  EXPECT_EQ(reloads, 2) << "nobody asked again";
}

TEST_F(HangupsTest, OneAfterTheRestReloadsAtOnceAgain) {
  hangups.heard();
  bool later = false;
  loop::Timer timer(loop, [&] { later = true; });
  timer.start_once(std::chrono::milliseconds(50));
  serve_until([&] { return later; });
  EXPECT_EQ(reloads, 1);
  hangups.heard();
  EXPECT_EQ(reloads, 2);
}

}  // namespace
}  // namespace telemetryd::app
