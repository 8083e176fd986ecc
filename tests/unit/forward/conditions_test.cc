#include "forward/conditions.h"

#include <gtest/gtest.h>

namespace telemetryd::forward {
namespace {

v1::Network network_of(const Facts& facts) {
  return conditions_of(facts).network();
}

TEST(ConditionsOfFacts, NothingSaidIsUnspecified) {
  const v1::Conditions conditions = conditions_of({});
  EXPECT_EQ(conditions.network(), v1::NETWORK_UNSPECIFIED);
  EXPECT_EQ(conditions.power(), v1::POWER_UNSPECIFIED);
}

TEST(ConditionsOfFacts, NetworkManagersWordAndItsGuessCount) {
  const std::vector<v1::Network> wanted = {v1::NETWORK_UNSPECIFIED,
                                           v1::NETWORK_METERED,
                                           v1::NETWORK_UNMETERED,
                                           v1::NETWORK_METERED,
                                           v1::NETWORK_UNMETERED,
                                           v1::NETWORK_UNSPECIFIED};
  for (std::uint32_t metered = 0; metered < wanted.size(); ++metered) {
    EXPECT_EQ(network_of({.network = NetworkFacts{metered, "802-11-wireless"}, .way_out = true}),
              wanted[metered]);
  }
}

TEST(ConditionsOfFacts, AModemThatRoamsCountsWhereItCarriesTheNetwork) {
  Facts facts;
  facts.network = NetworkFacts{4, "gsm"};
  facts.modems = ModemFacts{true};
  EXPECT_EQ(network_of(facts), v1::NETWORK_ROAMING);
  facts.network->connection_type = "802-3-ethernet";
  EXPECT_EQ(network_of(facts), v1::NETWORK_UNMETERED);
  facts.network->connection_type = "gsm";
  facts.modems = ModemFacts{false};
  EXPECT_EQ(network_of(facts), v1::NETWORK_UNMETERED);
  for (std::uint32_t state = 0; state < 20; ++state) {
    EXPECT_EQ(is_roaming(state), state == 5 || state == 7 || state == 10) << state;
  }
}

TEST(ConditionsOfFacts, WithoutAWayOutTheMachineIsOfflineWhateverServicesSay) {
  EXPECT_EQ(network_of({.network = NetworkFacts{2, "802-3-ethernet"}, .way_out = false}),
            v1::NETWORK_OFFLINE);
  EXPECT_EQ(network_of({.way_out = false}), v1::NETWORK_OFFLINE);
  EXPECT_EQ(network_of({.way_out = true}), v1::NETWORK_UNSPECIFIED);
}

TEST(ConditionsOfFacts, ABatteryOfUnknownChargeCountsAsFull) {
  Facts facts;
  facts.battery = BatteryFacts{7.9};
  EXPECT_EQ(conditions_of(facts).power(), v1::POWER_UNSPECIFIED);
  facts.power = PowerFacts{false};
  EXPECT_EQ(conditions_of(facts).power(), v1::POWER_MAINS);
  facts.power = PowerFacts{true};
  EXPECT_EQ(conditions_of(facts).power(), v1::POWER_BATTERY);
  EXPECT_EQ(conditions_of(facts).battery_percent(), 7u);
  facts.battery.reset();
  EXPECT_EQ(conditions_of(facts).battery_percent(), 100u);
  facts.battery = BatteryFacts{-3};
  EXPECT_EQ(conditions_of(facts).battery_percent(), 0u);
}

}  // namespace
}  // namespace telemetryd::forward
