// The policy for metered networks, roaming and batteries, with a real store and a scripted
// forwarder that tells how the machine stands.

#include <gtest/gtest.h>

#include "integration/forward/daemon_rig.h"

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;

class SchedulerConditions : public DaemonRig {
 protected:
  // Of the first destination, as soon as it is that.
  void wait_for_rule(const std::string& rule) {
    run_until([&] { return status().waiting_for == rule; });
  }

  // What was kept back leaves within a random time, which passes here.
  void let_pass() {
    clock_.advance(schedule::Destination::kReturnMax);
    append("other", 1);
  }

  std::int64_t delivered() { return account("tool", store::account::kDelivered); }

  static std::size_t leases(const ScriptedForwarder& forwarder) {
    std::size_t count = 0;
    for (const auto& message : forwarder.seen()) {
      if (message.has_lease()) ++count;
    }
    return count;
  }
};

TEST_F(SchedulerConditions, OnAMeteredNetworkOnlyUrgentRowsLeaveUntilThereIsAnother) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say(v1::NETWORK_METERED);
  start_scheduler();
  append("tool", 1000);
  wait_for_rule("metered");
  EXPECT_EQ(status().state, "waiting");
  EXPECT_EQ(status().next_attempt_s, std::nullopt);
  EXPECT_FALSE(busy_);
  EXPECT_EQ(leases(forwarder), 0u);

  append("tool", 1, true);
  run_until([&] { return delivered() == 1; });
  wait_for_rule("metered");

  forwarder.say(v1::NETWORK_UNMETERED);
  wait_for_rule("");
  let_pass();
  run_until([&] { return delivered() == 1001; });
  EXPECT_EQ(forwarder.connections(), 1) << "the forwarder stays to tell of a change";
}

TEST_F(SchedulerConditions, NothingLeavesBeforeTheForwarderHasSaidHowTheMachineStands) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say_nothing();
  start_scheduler();
  append("tool", 1000);
  run_until([&] { return forwarder.connections() == 1 && busy_; });
  settle_loop();
  EXPECT_EQ(leases(forwarder), 0u);
  forwarder.say(v1::NETWORK_ROAMING);
  wait_for_rule("roaming");
  EXPECT_EQ(leases(forwarder), 0u);
  EXPECT_FALSE(busy_);

  // The rows were given back, and wait where the next lease finds them.
  forwarder.say(v1::NETWORK_UNMETERED);
  wait_for_rule("");
  let_pass();
  run_until([&] { return delivered() == 1000; });
}

TEST_F(SchedulerConditions, AForwarderThatKnowsNothingOfConditionsDelivers) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say_nothing();
  start_scheduler();
  append("tool", 1000);
  run_until([&] { return delivered() == 1000; });
}

TEST_F(SchedulerConditions, AnUrgentRowThatIsTooYoungLeavesWhenItIsOfAge) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say(v1::NETWORK_METERED);
  start_scheduler();
  append("tool", 1000);
  wait_for_rule("metered");
  min_age_ = 1h;
  append("tool", 1, true);
  run_until([&] { return status().next_attempt_s.has_value(); });
  EXPECT_EQ(delivered(), 0);

  clock_.advance(1h + 10min);
  append("other", 1);
  run_until([&] { return delivered() == 1; });
}

TEST_F(SchedulerConditions, RoamingKeepsUrgentRowsBackToo) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say(v1::NETWORK_ROAMING);
  start_scheduler();
  append("tool", 1, true);
  wait_for_rule("roaming");
  EXPECT_EQ(leases(forwarder), 0u);
}

TEST_F(SchedulerConditions, ALowBatteryKeepsBackWhatIsNotUrgent) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say(v1::NETWORK_UNMETERED, v1::POWER_BATTERY, 19);
  start_scheduler();
  append("tool", 1000);
  wait_for_rule("battery");
  forwarder.say(v1::NETWORK_UNMETERED, v1::POWER_MAINS, 19);
  wait_for_rule("");
  let_pass();
  run_until([&] { return delivered() == 1000; });
}

TEST_F(SchedulerConditions, APersonsFlushOverrulesMeteredButNotRoaming) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say(v1::NETWORK_METERED);
  start_scheduler();
  append("tool", 2500);
  wait_for_rule("metered");
  EXPECT_TRUE(flush());
  EXPECT_EQ(delivered(), 2500);

  append("tool", 1000);
  wait_for_rule("metered");
  forwarder.say(v1::NETWORK_ROAMING);
  wait_for_rule("roaming");
  const auto refused = flush();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("main: the network is roaming"), std::string::npos)
      << refused.error().message();
  EXPECT_EQ(delivered(), 2500);
}

TEST_F(SchedulerConditions, TheFinalSyncIsNoPersonsWord) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say(v1::NETWORK_METERED);
  start_scheduler();
  append("tool", 5);
  append("tool", 1, true);
  run_until([&] { return delivered() == 1; });
  bool stopped = false;
  scheduler_->stop(true, 10s, [&] { stopped = true; });
  run_until([&] { return stopped; });
  EXPECT_EQ(delivered(), 1);
}

TEST_F(SchedulerConditions, ADestinationOnThisMachineDoesNotAsk) {
  specs_ = {{"main", "file", true}};
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.say_nothing();
  start_scheduler();
  append("tool", 1000);
  run_until([&] { return delivered() == 1000; });
  forwarder.say(v1::NETWORK_OFFLINE, v1::POWER_BATTERY, 1);
  append("tool", 1000);
  run_until([&] { return delivered() == 2000; });
}

TEST_F(SchedulerConditions, ARouteChangeBringsOnlyWhatTheNetworkFailedForward) {
  options_.retry_delay_min = options_.retry_delay_max = 30min;
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder& message) {
    auto reply = answer_with(message, v1::VERDICT_RETRY, "no route");
    reply->mutable_outcome()->set_cause(v1::CAUSE_CONNECT);
    return reply;
  });
  start_scheduler();
  append("tool", 1000);
  run_until([&] { return status().state == "backoff"; });
  forwarder.say_route_change();
  run_until([&] { return status().next_attempt_s <= 5; });
  EXPECT_EQ(status().waiting_for, "");

  forwarder.then([](const v1::ToForwarder& message) {
    auto reply = answer_with(message, v1::VERDICT_RETRY, "busy", 1800000);
    reply->mutable_outcome()->set_cause(v1::CAUSE_SERVER);
    return reply;
  });
  forwarder.then([](const v1::ToForwarder& message) {
    v1::FromForwarder reply;
    reply.mutable_probe_result()->set_id(message.probe().id());
    return std::optional(reply);
  });
  let_pass();
  run_until([&] { return status().last_error == "busy"; });
  forwarder.say_route_change();
  bool probed = false;
  scheduler_->probe("main", [&](const Result<std::string>&) { probed = true; });
  run_until([&] { return probed; });
  EXPECT_GE(status().next_attempt_s, 1800);
  EXPECT_EQ(forwarder.ended(), 0);
}

TEST_F(SchedulerConditions, UrgentRowsBehindABacklogGoSoonAndTheBacklogGoesOn) {
  options_.batch_events_max = 100;
  for (int i = 0; i < 20; ++i) append("tool", 100);
  append("tool", 1, true);
  append("tool", 2, true);
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  run_until([&] { return delivered() == 2003; });
  std::vector<int> urgent_at;
  const auto seen = forwarder.seen();
  for (std::size_t i = 0; i < seen.size(); ++i) {
    if (seen[i].lease().rows(0).count() < 100) urgent_at.push_back(static_cast<int>(i));
  }
  EXPECT_EQ(urgent_at, (std::vector{0}));
  EXPECT_EQ(seen.size(), 21u);
}

}  // namespace
}  // namespace telemetryd::test
