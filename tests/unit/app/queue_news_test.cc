#include "app/queue_news.h"

#include <vector>

#include <gtest/gtest.h>

#include "schedule/queue_number.h"

namespace telemetryd::app {
namespace {

TEST(QueueNews, ManyChangesOfOneAppBecomeOneWithTheLatestNumbers) {
  loop::Loop loop;
  QueueNews news(loop);
  std::vector<store::QueueChange> heard;
  news.on_change([&](const store::QueueChange& change, std::uint64_t) { heard.push_back(change); });

  news.tell({"tool", 1, 10, false});
  news.tell({"tool", 2, 20, true});
  news.tell({"tool", 3, 30, false});
  news.tell({"other", 1, 5, false});
  loop.poll();

  ASSERT_EQ(heard.size(), 2u);
  EXPECT_EQ(heard[0].app, "other");
  EXPECT_EQ(heard[1].app, "tool");
  EXPECT_EQ(heard[1].events, 3u);
  EXPECT_EQ(heard[1].bytes, 30u);
  EXPECT_TRUE(heard[1].urgent);
}

TEST(QueueNews, AMergedChangeHasTheNumberOfItsLatestPart) {
  loop::Loop loop;
  QueueNews news(loop);
  std::uint64_t number = 0;
  news.on_change([&](const store::QueueChange&, std::uint64_t given) { number = given; });

  news.tell({"tool", 1, 10, false});
  const std::uint64_t answer = schedule::next_queue_number();
  news.tell({"tool", 2, 20, false});
  loop.poll();
  EXPECT_GT(number, answer);
}

TEST(QueueNews, TellsAgainAfterItWasHeard) {
  loop::Loop loop;
  QueueNews news(loop);
  int heard = 0;
  news.on_change([&](const store::QueueChange&, std::uint64_t) { ++heard; });
  for (int i = 0; i < 3; ++i) {
    news.tell({"tool", 1, 10, false});
    loop.poll();
  }
  EXPECT_EQ(heard, 3);
}

}  // namespace
}  // namespace telemetryd::app
