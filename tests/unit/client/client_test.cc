#include <gtest/gtest.h>

#include "client_harness.h"

namespace telemetryd::client {
namespace {

TEST_F(ClientTest, DeliversWhatWasTrackedAndSaysGoodbye) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  for (int i = 0; i < 100; ++i) ASSERT_EQ(track(client, "event" + std::to_string(i)), TELEMETRY_OK);
  EXPECT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  EXPECT_EQ(stats(client).acknowledged, 100u);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 100u);
  EXPECT_EQ(last.lost_shutdown, 0u);
  ASSERT_TRUE(daemon.wait_until([&] { return daemon.goodbyes_locked() == 1; }));

  const auto events = daemon.events();
  ASSERT_EQ(events.size(), 1u);
  const auto& mine = events.begin()->second;
  ASSERT_EQ(mine.size(), 100u);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(mine[static_cast<std::size_t>(i)].name(), "event" + std::to_string(i));
  }
  EXPECT_EQ(daemon.protocol_errors(), 0);
}

}  // namespace
}  // namespace telemetryd::client
