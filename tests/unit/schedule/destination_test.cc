#include "schedule/destination.h"

#include <array>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/fake_clock.h"

namespace telemetryd::schedule {
namespace {

using namespace std::chrono_literals;
using Kind = Action::Kind;
using State = Destination::State;

constexpr Timing kTiming{300s, 1000, 1u << 20, {1000ms, 300000ms}};

class DestinationTest : public ::testing::Test {
 protected:
  Action step() { return destination_.step(clock_.boot_ms()); }

  // Time passes until the machine's own wait is over.
  void pass_wait() {
    const Action action = step();
    ASSERT_EQ(action.kind, Kind::kWait);
    clock_.advance(std::chrono::milliseconds(action.until - clock_.boot_ms()));
    ASSERT_EQ(step().kind, Kind::kLease);
  }

  void fail(Failure failure) {
    destination_.leasing();
    destination_.failed(clock_.boot_ms(), failure);
  }

  test::FakeClock clock_;
  Prng prng_{11};
  Destination destination_{kTiming, prng_};
};

TEST_F(DestinationTest, WantsNoTimerWhileNothingIsQueued) {
  EXPECT_EQ(step().kind, Kind::kNothing);
  EXPECT_EQ(destination_.state(), State::kIdle);

  destination_.queue_is(1, 10);
  EXPECT_EQ(step().kind, Kind::kWait);
  destination_.queue_is(0, 0);
  EXPECT_EQ(step().kind, Kind::kNothing);
}

TEST_F(DestinationTest, WhatWasDeliveredButNotSettledIsTakenUpWithoutAnythingQueued) {
  destination_.queue_is(1, 10);
  fail({.error = "settling: the disk is full", .unsettled = true});
  destination_.queue_is(0, 0);
  EXPECT_EQ(destination_.state(), State::kBackoff);
  EXPECT_TRUE(destination_.next_attempt().has_value());
  pass_wait();
  destination_.leasing();
  destination_.delivered(clock_.unix_ms());
  EXPECT_EQ(step().kind, Kind::kNothing);
  EXPECT_EQ(destination_.state(), State::kIdle);
}

TEST_F(DestinationTest, WantsNoTimerInBackoffOnceTheQueueIsErased) {
  destination_.queue_is(1, 10);
  fail({false, 60s, "refused"});
  EXPECT_EQ(step().kind, Kind::kWait);
  destination_.queue_is(0, 0);
  EXPECT_EQ(step().kind, Kind::kNothing);
}

TEST_F(DestinationTest, AFewEventsWaitForTheInterval) {
  destination_.queue_is(5, 500);
  EXPECT_EQ(destination_.state(), State::kWaiting);
  pass_wait();
}

TEST(Destination, TheFirstPhaseIsSpreadOverTheInterval) {
  Prng prng(3);
  int early = 0;
  int late = 0;
  for (int i = 0; i < 1000; ++i) {
    Destination destination(kTiming, prng);
    destination.queue_is(1, 10);
    const Action action = destination.step(0);
    ASSERT_LE(action.until, 300000);
    (action.until < 150000 ? early : late) += 1;
  }
  EXPECT_NEAR(early, late, 200);
}

TEST_F(DestinationTest, LaterIntervalsVaryByATenth) {
  std::set<BootMs> seen;
  destination_.queue_is(1, 10);
  pass_wait();
  for (int i = 0; i < 200; ++i) {
    destination_.leasing();
    destination_.queue_is(0, 0);
    destination_.drained(clock_.boot_ms(), 0, 0);
    destination_.queue_is(1, 10);
    const Action action = step();
    ASSERT_EQ(action.kind, Kind::kWait);
    const BootMs wait = action.until - clock_.boot_ms();
    EXPECT_GE(wait, 270000);
    EXPECT_LE(wait, 330000);
    seen.insert(wait);
    clock_.advance(std::chrono::milliseconds(wait));
    ASSERT_EQ(step().kind, Kind::kLease);
  }
  EXPECT_GT(seen.size(), 150u);
}

TEST_F(DestinationTest, AFullBatchIsDueAtOnceByEventsAndByBytes) {
  destination_.queue_is(999, 100);
  EXPECT_EQ(step().kind, Kind::kWait);
  destination_.queue_is(1000, 100);
  EXPECT_EQ(step().kind, Kind::kLease);
  destination_.queue_is(2, 1u << 20);
  EXPECT_EQ(step().kind, Kind::kLease);
}

TEST_F(DestinationTest, AnUrgentEventIsDueAtOnceButNotPastABackoff) {
  destination_.queue_is(1, 10);
  destination_.urge();
  EXPECT_EQ(step().kind, Kind::kLease);

  fail({false, 60s, "busy"});
  destination_.urge();
  EXPECT_EQ(step().kind, Kind::kWait);
}

TEST_F(DestinationTest, DrainsEverythingBeforeItWaitsAgain) {
  destination_.queue_is(3500, 100);
  for (const std::uint64_t left : {2500u, 1500u, 500u, 0u}) {
    ASSERT_EQ(step().kind, Kind::kLease);
    destination_.leasing();
    EXPECT_EQ(step().kind, Kind::kNothing);
    destination_.queue_is(left, 100);
    destination_.delivered(clock_.unix_ms());
  }
  EXPECT_EQ(step().kind, Kind::kNothing);
  EXPECT_EQ(destination_.state(), State::kIdle);
}

TEST_F(DestinationTest, NeverBeforeRetryAfter) {
  destination_.queue_is(5000, 10);
  fail({false, 40s, "slow down"});
  EXPECT_EQ(destination_.state(), State::kBackoff);
  clock_.advance(39999ms);
  EXPECT_EQ(step().kind, Kind::kWait);
  clock_.advance(8001ms);
  EXPECT_EQ(step().kind, Kind::kLease);
}

TEST_F(DestinationTest, AWallClockJumpDoesNotMoveARunningBackoff) {
  destination_.queue_is(5, 10);
  fail({false, 40s, "slow down"});
  clock_.jump(24h);
  EXPECT_EQ(step().kind, Kind::kWait);
  clock_.jump(-48h);
  clock_.advance(48s);
  EXPECT_EQ(step().kind, Kind::kLease);
}

TEST_F(DestinationTest, FailuresCountUpAndASuccessForgetsThem) {
  destination_.queue_is(5, 10);
  fail({false, 0ms, "one"});
  fail({false, 0ms, "two"});
  EXPECT_EQ(destination_.attempt(), 3u);
  EXPECT_EQ(destination_.outage().last_error(), "two");

  destination_.leasing();
  destination_.delivered(clock_.unix_ms());
  EXPECT_EQ(destination_.attempt(), 1u);
  EXPECT_EQ(destination_.outage().last_error(), "");
  EXPECT_EQ(destination_.last_success(), clock_.unix_ms());
}

TEST_F(DestinationTest, AHeldDestinationProbesWithOneLeasePerBackoff) {
  destination_.queue_is(5000, 10);
  fail({true, 20s, "status 401"});
  for (int probe = 0; probe < 5; ++probe) {
    EXPECT_EQ(destination_.state(), State::kHeld);
    clock_.advance(19999ms);
    ASSERT_EQ(step().kind, Kind::kWait);
    clock_.advance(300s);
    ASSERT_EQ(step().kind, Kind::kLease);
    fail({true, 20s, "status 401"});
  }
  EXPECT_EQ(destination_.outage().failures(), 6u);
}

TEST_F(DestinationTest, ReconfigurationTriesAHeldDestinationAtOnce) {
  destination_.queue_is(5, 10);
  fail({true, 1h, "status 401"});
  ASSERT_EQ(step().kind, Kind::kWait);
  destination_.reconsider(clock_.boot_ms());
  EXPECT_EQ(step().kind, Kind::kLease);
}

TEST_F(DestinationTest, FlushGoesPastBackoffOnce) {
  destination_.queue_is(5, 10);
  fail({false, 1h, "down"});
  destination_.flush();
  ASSERT_EQ(step().kind, Kind::kLease);
  fail({false, 1h, "down"});
  EXPECT_EQ(step().kind, Kind::kWait);
}

TEST_F(DestinationTest, RowsThatMayNotLeaveDoNotMakeItSpin) {
  destination_.queue_is(5000, 1u << 22);
  destination_.leasing();
  destination_.drained(clock_.boot_ms(), 5000, 1u << 22);
  EXPECT_EQ(step().kind, Kind::kWait);
  destination_.queue_is(5999, 1u << 22);
  EXPECT_EQ(step().kind, Kind::kWait);
  destination_.queue_is(6000, 1u << 22);
  EXPECT_EQ(step().kind, Kind::kLease);
}

TEST_F(DestinationTest, RowsThatCameAfterNothingWasLentCountForTheSize) {
  destination_.queue_is(10, 100);
  destination_.leasing();
  destination_.queue_is(1010, 10100);
  destination_.drained(clock_.boot_ms(), 10, 100);
  EXPECT_EQ(step().kind, Kind::kLease);
}

TEST_F(DestinationTest, RowsThatAreTooYoungAreTakenUpWhenTheyAreOldEnough) {
  destination_.queue_is(5, 100);
  destination_.leasing();
  const BootMs due = clock_.boot_ms() + 7 * 86400 * BootMs{1000};
  destination_.drained(clock_.boot_ms(), 5, 100, due);
  EXPECT_EQ(step().until, due);
  destination_.queue_is(6, 110);
  EXPECT_EQ(step().until, due) << "a younger row changes nothing";

  // Those that come of age one by one go together, once an interval.
  clock_.advance(std::chrono::milliseconds(due - clock_.boot_ms()));
  ASSERT_EQ(step().kind, Kind::kLease);
  destination_.leasing();
  destination_.drained(clock_.boot_ms(), 3, 50, clock_.boot_ms() + 1000);
  EXPECT_GE(step().until, clock_.boot_ms() + 270000);

  destination_.reconsider(clock_.boot_ms());
  EXPECT_LE(step().until, clock_.boot_ms() + 330000) << "min_age may be another now";
}

TEST_F(DestinationTest, ABacklogFromBeforeAStartIsSyncedSoonButNotBeforeABackoff) {
  destination_.resume(clock_.boot_ms());
  EXPECT_EQ(step().kind, Kind::kNothing);
  destination_.queue_is(1, 10);
  destination_.resume(clock_.boot_ms());
  ASSERT_EQ(step().kind, Kind::kWait);
  EXPECT_LE(step().until, clock_.boot_ms() + 30000);

  fail({false, 60s, "refused"});
  destination_.resume(clock_.boot_ms());
  EXPECT_GE(step().until, clock_.boot_ms() + 60000);
}

TEST_F(DestinationTest, AnOutageEndsWithSmallBatchesThatDouble) {
  destination_.queue_is(100000, 10);
  for (int i = 0; i < 2; ++i) fail({false, 0s, "refused", Cause::kConnect});
  EXPECT_EQ(destination_.events_max(clock_.boot_ms()), 1000u) << "a hiccup is no outage";
  fail({false, 0s, "refused", Cause::kConnect});
  std::vector<std::uint32_t> sizes;
  for (int i = 0; i < 8; ++i) {
    sizes.push_back(destination_.events_max(clock_.boot_ms()));
    destination_.leasing();
    destination_.delivered(clock_.unix_ms());
  }
  EXPECT_EQ(sizes, (std::vector<std::uint32_t>{16, 32, 64, 128, 256, 512, 1000, 1000}));
}

TEST_F(DestinationTest, WhoLooksForTheEventAtFaultGetsWholeBatches) {
  destination_.queue_is(100000, 10);
  for (int i = 0; i < 4; ++i) fail({false, 0s, "status 500", Cause::kServer});
  EXPECT_EQ(destination_.events_max(clock_.boot_ms()), Destination::kRampEventsFirst);
  clock_.advance(24h);
  EXPECT_EQ(destination_.events_max(clock_.boot_ms()), 1000u);
}

TEST_F(DestinationTest, AThousandComeBackSpreadAfterAnOutage) {
  // All failed at the same moment for the same reason, and have failed for hours.
  std::array<int, 10> buckets{};
  for (int i = 0; i < 1000; ++i) {
    Prng prng(static_cast<std::uint64_t>(i));
    Destination one(kTiming, prng);
    one.queue_is(5000, 10);
    for (int failures = 0; failures < 12; ++failures) {
      one.leasing();
      one.failed(clock_.boot_ms(), {false, 0s, "connection refused", Cause::kConnect});
    }
    const Action action = one.step(clock_.boot_ms());
    const BootMs wait = action.kind == Kind::kWait ? action.until - clock_.boot_ms() : 0;
    ASSERT_LE(wait, 300000);
    EXPECT_EQ(one.events_max(clock_.boot_ms()), Destination::kRampEventsFirst);
    ++buckets[static_cast<std::size_t>(std::min<BootMs>(9, wait / 30000))];
  }
  // 100 expected in each tenth of the time; five standard deviations of room.
  for (const int count : buckets) EXPECT_NEAR(count, 100, 48);
}

TEST_F(DestinationTest, StateSurvivesARestart) {
  destination_.queue_is(5, 10);
  fail({true, 600s, "status 403"});
  const BootMs left = *destination_.next_attempt() - clock_.boot_ms();
  const std::string saved = destination_.persisted(clock_.boot_ms(), clock_.unix_ms());

  // The machine was off for 100 s and counts its boot time anew.
  Destination other(kTiming, prng_);
  const UnixMs later = clock_.unix_ms() + 100000;
  ASSERT_TRUE(other.restore(saved, 5000, later));
  other.queue_is(5, 10);
  EXPECT_EQ(other.state(), State::kHeld);
  EXPECT_EQ(other.outage().failures(), 1u);
  EXPECT_EQ(other.outage().last_error(), "status 403");
  const Action action = other.step(5000);
  ASSERT_EQ(action.kind, Kind::kWait);
  EXPECT_EQ(action.until, 5000 + left - 100000);
}

TEST_F(DestinationTest, AStateFromAClockThatWasWrongByYearsIsRebased) {
  destination_.queue_is(5, 10);
  fail({false, 600s, "down"});
  const std::string saved = destination_.persisted(clock_.boot_ms(), clock_.unix_ms());
  constexpr UnixMs kYearMs = 365LL * 86400 * 1000;

  Destination back(kTiming, prng_);
  ASSERT_TRUE(back.restore(saved, 0, clock_.unix_ms() - kYearMs));
  back.queue_is(5, 10);
  EXPECT_LE(back.step(0).until, 300000);

  Destination ahead(kTiming, prng_);
  ASSERT_TRUE(ahead.restore(saved, 0, clock_.unix_ms() + kYearMs));
  ahead.queue_is(5, 10);
  EXPECT_EQ(ahead.step(0).kind, Kind::kLease);
}

TEST_F(DestinationTest, AStateThatIsNoneIsIgnored) {
  for (const char* text : {"",
                           "{",
                           "[]",
                           "{\"v\":2}",
                           "{\"v\":1,\"failures\":-1,\"held\":true,\"last_error\":\"\"}",
                           "{\"v\":1,\"failures\":1,\"held\":1,\"last_error\":\"\"}"}) {
    EXPECT_FALSE(destination_.restore(text, 0, 0)) << text;
    EXPECT_EQ(destination_.outage().failures(), 0u);
  }
}

TEST_F(DestinationTest, ExtremeNumbersInAStateDoNoHarm) {
  ASSERT_TRUE(
      destination_.restore("{\"v\":1,\"failures\":18446744073709551615,\"held\":false,"
                           "\"last_error\":\"x\",\"next_attempt_unix_ms\":"
                           "9223372036854775807}",
                           1000,
                           1'700'000'000'000));
  destination_.queue_is(1, 1);
  EXPECT_LE(destination_.step(1000).until, 301000);
  ASSERT_TRUE(
      destination_.restore("{\"v\":1,\"failures\":1,\"held\":false,\"last_error\":\"x\","
                           "\"next_attempt_unix_ms\":-9223372036854775808}",
                           1000,
                           1'700'000'000'000));
  EXPECT_EQ(destination_.step(1000).kind, Kind::kLease);
}

TEST_F(DestinationTest, WhatWasKeptBackLeavesSpreadOverAFewSeconds) {
  std::set<BootMs> times;
  for (int i = 0; i < 50; ++i) {
    destination_.queue_is(1000, 1000);
    ASSERT_EQ(step().kind, Kind::kLease);
    destination_.released(clock_.boot_ms());
    const Action action = step();
    if (action.kind == Kind::kWait) times.insert(action.until - clock_.boot_ms());
    // The next word is no reason to draw again.
    destination_.released(clock_.boot_ms());
    EXPECT_EQ(step().until, action.until);
    clock_.advance(Destination::kReturnMax);
  }
  EXPECT_GT(times.size(), 40u);
  EXPECT_LE(*times.rbegin(), Destination::kReturnMax.count());
}

TEST_F(DestinationTest, ARowThatMayNotLeaveNowIsDueAsSoonAsItMay) {
  destination_.queue_is(1, 1);
  pass_wait();
  destination_.leasing();
  destination_.postponed();
  EXPECT_EQ(step().kind, Kind::kLease);
  EXPECT_EQ(destination_.state(), State::kWaiting);
  EXPECT_EQ(destination_.attempt(), 1u);
}

TEST_F(DestinationTest, ANetworkThatReturnsBringsTheRetryForwardButNotBeforeRetryAfter) {
  destination_.queue_is(1, 1);
  for (int i = 0; i < 12; ++i) fail({});
  for (int i = 0; i < 50; ++i) {
    fail({});
    destination_.retry_soon(clock_.boot_ms());
    const auto next = *destination_.next_attempt();
    EXPECT_LE(next, clock_.boot_ms() + Destination::kReturnMax.count());
    destination_.retry_soon(clock_.boot_ms());
    EXPECT_EQ(destination_.next_attempt(), next);
  }
  fail({false, 40s, ""});
  destination_.retry_soon(clock_.boot_ms());
  EXPECT_GE(*destination_.next_attempt(), clock_.boot_ms() + 40'000);
}

TEST_F(DestinationTest, ErrorTextIsBounded) {
  destination_.queue_is(1, 1);
  fail({false, 0ms, std::string(100000, 'x')});
  EXPECT_EQ(destination_.outage().last_error().size(), Outage::kErrorBytesMax);
}

}  // namespace
}  // namespace telemetryd::schedule
