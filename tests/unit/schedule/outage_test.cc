#include "schedule/outage.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace telemetryd::schedule {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr BootMs kHour = 3600 * 1000;

TEST(Outage, KeepsTheFirstErrorAndTheLast) {
  Outage outage;
  EXPECT_FALSE(outage.lasted(0));
  outage.failed(1000, Cause::kConnect, "refused");
  outage.failed(5000, Cause::kTimeout, "no answer");
  EXPECT_EQ(outage.failures(), 2u);
  EXPECT_EQ(outage.first_error(), "refused");
  EXPECT_EQ(outage.last_error(), "no answer");
  EXPECT_EQ(outage.cause(), Cause::kTimeout);
  EXPECT_EQ(outage.lasted(6000), 5000ms);
  outage.end();
  EXPECT_EQ(outage.failures(), 0u);
  EXPECT_EQ(outage.first_error(), "");
  EXPECT_FALSE(outage.lasted(6000));
}

TEST(Outage, EventsAreSuspectAfterADayOfNothingButServerErrors) {
  Outage outage;
  outage.failed(0, Cause::kServer, "status 500");
  outage.failed(23 * kHour, Cause::kServer, "status 500");
  EXPECT_FALSE(outage.suspect_events(24 * kHour - 1));
  EXPECT_TRUE(outage.suspect_events(24 * kHour));
  outage.failed(25 * kHour, Cause::kBadRequest, "status 400");
  EXPECT_FALSE(outage.suspect_events(25 * kHour));
  outage.failed(26 * kHour, Cause::kServer, "status 500");
  EXPECT_FALSE(outage.suspect_events(49 * kHour));
  EXPECT_TRUE(outage.suspect_events(50 * kHour));
}

TEST(Outage, ANightWithoutANetworkDoesNotMakeTheDayBeginAnew) {
  Outage outage;
  outage.failed(0, Cause::kServer, "status 500");
  outage.failed(12 * kHour, Cause::kConnect, "no route");
  EXPECT_FALSE(outage.suspect_events(24 * kHour)) << "the last word was not the server's";
  outage.failed(24 * kHour, Cause::kServer, "status 500");
  EXPECT_TRUE(outage.suspect_events(24 * kHour));
}

TEST(Outage, ARestartGoesOnCountingWhereItEnded) {
  Outage before;
  before.failed(100 * kHour, Cause::kServer, "first");
  before.failed(110 * kHour, Cause::kServer, "last");
  json state;
  before.persist(state, 110 * kHour);

  Outage after;
  ASSERT_TRUE(after.restore(state, 5000));
  EXPECT_EQ(after.failures(), 2u);
  EXPECT_EQ(after.first_error(), "first");
  EXPECT_EQ(after.last_error(), "last");
  EXPECT_EQ(after.cause(), Cause::kServer);
  EXPECT_EQ(after.lasted(5000), 10h);
  EXPECT_FALSE(after.suspect_events(14 * kHour));
  EXPECT_TRUE(after.suspect_events(5000 + 14 * kHour));
}

TEST(Outage, OnlyAnUpstreamThatWasAwayIsTakenUpGently) {
  for (const auto& [cause, away] : {std::pair{Cause::kConnect, true},
                                    {Cause::kNameResolution, true},
                                    {Cause::kTimeout, true},
                                    {Cause::kConnectionLost, true},
                                    {Cause::kServer, true},
                                    {Cause::kProxy, true},
                                    {Cause::kCaptivePortal, true},
                                    {Cause::kRateLimit, false},
                                    {Cause::kSize, false},
                                    {Cause::kBadRequest, false},
                                    {Cause::kAuthentication, false},
                                    {Cause::kUnspecified, false}}) {
    Outage outage;
    outage.failed(0, cause, "x");
    outage.failed(1, cause, "x");
    EXPECT_FALSE(outage.was_away()) << "two failures are no outage";
    outage.failed(2, cause, "x");
    EXPECT_EQ(outage.was_away(), away) << to_string(cause);
  }
}

TEST(Outage, ADamagedStateDoesNoHarm) {
  Outage outage;
  EXPECT_FALSE(outage.restore(json::object(), 0));
  ASSERT_TRUE(outage.restore({{"failures", 18446744073709551615u},
                              {"last_error", "x"},
                              {"first_error", 7},
                              {"cause", 99},
                              {"failing_for_ms", -9223372036854775807 - 1},
                              {"server_failing_for_ms", 9223372036854775807}},
                             1000));
  EXPECT_EQ(outage.lasted(1000), 0ms);
  EXPECT_EQ(outage.cause(), Cause::kUnspecified);
  EXPECT_EQ(outage.first_error(), "");
}

}  // namespace
}  // namespace telemetryd::schedule
