#include "forward/conditions.h"

#include <algorithm>

namespace telemetryd::forward {
namespace {

bool is_modem(const std::string& connection_type) {
  return connection_type == "gsm" || connection_type == "cdma";
}

v1::Network network_of(const Facts& facts) {
  if (facts.way_out == false) return v1::NETWORK_OFFLINE;
  if (!facts.network) return v1::NETWORK_UNSPECIFIED;
  if (is_modem(facts.network->connection_type) && facts.modems && facts.modems->roaming) {
    return v1::NETWORK_ROAMING;
  }
  switch (facts.network->metered) {
    case 1:  // yes
    case 3:  // guessed so
      return v1::NETWORK_METERED;
    case 2:  // no
    case 4:  // guessed so
      return v1::NETWORK_UNMETERED;
    default: return v1::NETWORK_UNSPECIFIED;
  }
}

}  // namespace

v1::Conditions conditions_of(const Facts& facts) {
  v1::Conditions conditions;
  conditions.set_network(network_of(facts));
  if (!facts.power) return conditions;
  conditions.set_power(facts.power->on_battery ? v1::POWER_BATTERY : v1::POWER_MAINS);
  if (facts.power->on_battery) {
    const double percent = facts.battery ? facts.battery->percent : 100;
    conditions.set_battery_percent(static_cast<std::uint32_t>(std::clamp(percent, 0.0, 100.0)));
  }
  return conditions;
}

bool is_roaming(std::uint32_t registration_state) {
  constexpr std::uint32_t kRoaming = 5;
  constexpr std::uint32_t kRoamingSmsOnly = 7;
  constexpr std::uint32_t kRoamingCsfbNotPreferred = 10;
  return registration_state == kRoaming || registration_state == kRoamingSmsOnly ||
         registration_state == kRoamingCsfbNotPreferred;
}

}  // namespace telemetryd::forward
