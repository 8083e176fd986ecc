// The day's limit on what is sent, with a real store and a scripted forwarder.

#include <gtest/gtest.h>

#include "integration/forward/daemon_rig.h"

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;

class NetworkBudget : public DaemonRig {
 protected:
  static constexpr std::uint64_t kBody = 50'000;

  // Each request has a body of kBody, whatever becomes of it.
  static std::optional<v1::FromForwarder> deliver_fifty(const v1::ToForwarder& message) {
    auto reply = deliver(message);
    reply->mutable_outcome()->set_body_bytes(kBody);
    return reply;
  }

  void restart_scheduler() {
    scheduler_.reset();
    start_scheduler();
  }

  std::int64_t delivered() { return account("tool", store::account::kDelivered); }
};

TEST_F(NetworkBudget, WhatWasSentIsCountedAndKeptOverARestart) {
  ScriptedForwarder forwarder(socket_path(), deliver_fifty);
  start_scheduler();
  append("tool", 3, true);
  run_until([&] { return delivered() == 3 && status().state == "idle"; });
  EXPECT_EQ(status().sent_bytes_today, kBody);
  wait_for_store();
  restart_scheduler();
  EXPECT_EQ(status().sent_bytes_today, kBody);
  clock_.advance(24h);
  EXPECT_EQ(status().sent_bytes_today, 0u);
}

TEST_F(NetworkBudget, NothingLeavesOnceTheDaysBytesAreSentUntilTheDayIsOver) {
  options_.network_bytes_per_day_max = 2 * kBody;
  specs_ = {{"main", "native"}, {"other", "native"}};
  ScriptedForwarder forwarder(socket_path(), deliver_fifty);
  start_scheduler();
  append("tool", 3, true);
  run_until([&] { return delivered() == 3; });
  EXPECT_EQ(status().waiting_for, "");
  clock_.advance(1h);
  append("tool", 1, true);
  run_until([&] { return delivered() == 4; });

  append("tool", 1, true);
  run_until([&] { return status().waiting_for == "budget"; });
  EXPECT_EQ(status().next_attempt_s, 23 * 3600);
  EXPECT_FALSE(busy_);
  const auto refused = flush();
  ASSERT_FALSE(refused) << "a limit that a person overrules is none";
  EXPECT_NE(refused.error().message().find("network_bytes_per_day_max"), std::string::npos)
      << refused.error().message();
  wait_for_store();
  restart_scheduler();
  append("tool", 1, true);
  run_until([&] { return status().waiting_for == "budget"; });
  EXPECT_EQ(delivered(), 4);

  clock_.advance(23h);
  append("tool", 1, true);
  run_until([&] { return delivered() == 7; });
}

TEST_F(NetworkBudget, ABacklogStopsInTheMiddle) {
  options_.network_bytes_per_day_max = 3 * kBody;
  options_.batch_events_max = 10;
  ScriptedForwarder forwarder(socket_path(), deliver_fifty);
  append("tool", 45);
  start_scheduler();
  EXPECT_FALSE(flush());
  EXPECT_EQ(delivered(), 30);
  EXPECT_EQ(status().waiting_for, "budget");
  append("tool", 1, true);

  clock_.advance(24h);
  EXPECT_TRUE(flush()) << "the urgent row, and what was left in two batches";
  EXPECT_EQ(delivered(), 46);
  EXPECT_TRUE(flush()) << "nothing waits, so nothing is refused";
}

TEST_F(NetworkBudget, AttemptsThatFailAreSpentAsWell) {
  options_.network_bytes_per_day_max = 2 * kBody;
  options_.retry_delay_min = options_.retry_delay_max = 1s;
  ScriptedForwarder forwarder(socket_path(), [](const v1::ToForwarder& message) {
    auto reply = answer_with(message, v1::VERDICT_RETRY, "busy");
    reply->mutable_outcome()->set_body_bytes(kBody);
    return reply;
  });
  start_scheduler();
  append("tool", 1, true);
  run_until([&] { return status().attempts == 1; });
  clock_.advance(1s);
  append("tool", 1, true);
  run_until([&] { return status().attempts == 2; });
  clock_.advance(1s);
  append("tool", 1, true);
  run_until([&] { return status().waiting_for == "budget"; });
  EXPECT_EQ(status().sent_bytes_today, 2 * kBody);
}

TEST_F(NetworkBudget, WhatStaysOnThisMachineIsNotCounted) {
  options_.network_bytes_per_day_max = kBody;
  specs_ = {{"main", "file", true}};
  ScriptedForwarder forwarder(socket_path(), deliver_fifty);
  start_scheduler();
  for (int i = 1; i <= 3; ++i) {
    append("tool", 1, true);
    run_until([&] { return delivered() == i; });
  }
  EXPECT_EQ(status().sent_bytes_today, 0u);
}

}  // namespace
}  // namespace telemetryd::test
