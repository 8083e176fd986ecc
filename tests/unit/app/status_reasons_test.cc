#include "app/status_reasons.h"

#include <gtest/gtest.h>

namespace telemetryd::app {
namespace {

Observed healthy() {
  Observed observed;
  observed.store = true;
  observed.store_bytes = 10;
  observed.store_bytes_max = 100;
  return observed;
}

TEST(StatusReasons, AreNoneWhenAllIsWell) {
  EXPECT_TRUE(reasons(healthy()).empty());
  EXPECT_TRUE(not_ready(healthy()).empty());
}

TEST(StatusReasons, RepeatWhatIsWrongWithTheGateway) {
  Observed observed = healthy();
  observed.gateway_problem = "it failed";
  EXPECT_EQ(reasons(observed), std::vector<std::string>{"it failed"});
}

TEST(StatusReasons, ThePolicyIsOffWithAStoreAndWithout) {
  for (const bool store : {true, false}) {
    Observed observed = healthy();
    observed.store = store;
    observed.policy_off = true;
    EXPECT_EQ(
        reasons(observed),
        std::vector<std::string>{"the machine's policy is off: nothing is collected or stored"});
  }
}

TEST(StatusReasons, NameAHeldDestinationWithItsError) {
  Observed observed = healthy();
  schedule::DestinationStatus destination;
  destination.name = "home";
  destination.state = "held";
  destination.attempts = 2;
  destination.last_error = "401 unauthorized";
  observed.destinations = {destination};
  ASSERT_EQ(reasons(observed).size(), 1u);
  EXPECT_EQ(reasons(observed)[0],
            "destination home is held after 2 failed attempts: 401 unauthorized");
  EXPECT_TRUE(not_ready(observed).empty());
}

TEST(StatusReasons, SpeakOfOneFailedAttemptAsOfOne) {
  Observed observed = healthy();
  schedule::DestinationStatus destination;
  destination.name = "home";
  destination.state = "backoff";
  destination.attempts = 1;
  destination.last_error = "refused";
  observed.destinations = {destination};
  ASSERT_EQ(reasons(observed).size(), 1u);
  EXPECT_EQ(reasons(observed)[0], "destination home is in backoff after 1 failed attempt: refused");
}

TEST(StatusReasons, NameAnAppThatTheUpstreamDoesNotWant) {
  Observed observed = healthy();
  schedule::DestinationStatus destination;
  destination.name = "home";
  destination.state = "idle";
  destination.muted_s = {{"loud", 3600}};
  observed.destinations = {destination};
  EXPECT_EQ(reasons(observed),
            std::vector<std::string>{
                "destination home asked for no events of app loud for 3600 s more; they wait"});
  EXPECT_TRUE(not_ready(observed).empty());
}

TEST(StatusReasons, AFullStoreThatRefusesIsNotReady) {
  Observed observed = healthy();
  observed.store_bytes = 96;
  EXPECT_EQ(reasons(observed).size(), 1u);
  EXPECT_TRUE(not_ready(observed).empty());
  observed.refuse_when_full = true;
  EXPECT_EQ(reasons(observed).size(), 1u);
  EXPECT_EQ(not_ready(observed).size(), 1u);
}

TEST(StatusReasons, BeginWithTheWordOfAStoresTrouble) {
  Observed observed = healthy();
  observed.troubles = {{"rows_bad", "some cannot be read"}, {"disk_low", "make room", true}};
  EXPECT_EQ(reasons(observed),
            (std::vector<std::string>{"disk_low: make room", "rows_bad: some cannot be read"}));
  EXPECT_EQ(not_ready(observed), std::vector<std::string>{"disk_low: make room"});
}

TEST(StatusReasons, NameUnroutedAppsOnlyWhenSomethingWaits) {
  Observed observed = healthy();
  observed.apps = {{"empty", std::nullopt, 0, 0}, {"tool", std::nullopt, 2, 10}, {"ok", "d", 5, 9}};
  ASSERT_EQ(reasons(observed).size(), 1u);
  EXPECT_NE(reasons(observed)[0].find("app tool"), std::string::npos);
}

TEST(StatusReasons, SayWhatWasLost) {
  Observed observed = healthy();
  observed.loss = "3 events after a restore";
  observed.balanced = false;
  EXPECT_EQ(reasons(observed).size(), 2u);
  EXPECT_EQ(reasons(observed)[0], "events were lost: 3 events after a restore");
}

TEST(StatusReasons, SayWhereADamagedStoreLiesAndWhatToDoWithIt) {
  Observed observed = healthy();
  observed.quarantined_stores = 1;
  observed.quarantined_newest = "/state/quarantine/x";
  ASSERT_EQ(reasons(observed).size(), 1u);
  EXPECT_NE(reasons(observed)[0].find("telemetryd-salvage /state/quarantine/x"), std::string::npos);
  EXPECT_TRUE(not_ready(observed).empty());
}

TEST(StatusReasons, SayWhereAllDamagedStoresLie) {
  Observed observed = healthy();
  observed.quarantined_stores = 2;
  observed.quarantined_newest = "/state/quarantine/x";
  ASSERT_EQ(reasons(observed).size(), 1u);
  EXPECT_NE(reasons(observed)[0].find("each folder in /state/quarantine;"), std::string::npos)
      << reasons(observed)[0];
  EXPECT_NE(reasons(observed)[0].find("bytes_max"), std::string::npos);
}

}  // namespace
}  // namespace telemetryd::app
