#include "schedule/sync_policy.h"

namespace telemetryd::schedule {
namespace {

constexpr std::string_view kOffline = "offline";
constexpr std::string_view kRoaming = "roaming";
constexpr std::string_view kMetered = "metered";
constexpr std::string_view kBattery = "battery";

Permission by_network(const SyncPolicy& policy, Network network) {
  switch (network) {
    case Network::kOffline: return {Permit::kNothing, kOffline};
    case Network::kRoaming: return {policy.roaming, kRoaming};
    case Network::kMetered: return {policy.metered, kMetered};
    case Network::kUnmetered:
    case Network::kUnspecified: break;
  }
  return {};
}

Permission by_power(const SyncPolicy& policy, const Conditions& conditions) {
  const bool low = conditions.power == Power::kBattery &&
                   conditions.battery_percent < policy.battery_percent_min;
  return low ? Permission{Permit::kUrgent, kBattery} : Permission{};
}

}  // namespace

Permission permission(const SyncPolicy& policy, const Conditions& conditions, bool by_hand) {
  const Permission network = by_network(policy, conditions.network);
  const Permission power = by_power(policy, conditions);
  const Permission strictest = power.permit > network.permit ? power : network;
  if (strictest.permit == Permit::kAll) return {};
  const bool overruled = strictest.permit == Permit::kUrgent || strictest.rule == kOffline;
  return by_hand && overruled ? Permission{} : strictest;
}

std::string_view explain(std::string_view rule) {
  if (rule == kOffline) return "there is no network; events wait for one";
  if (rule == kRoaming) {
    return "the network is roaming; events wait for another one ([forward] roaming)";
  }
  if (rule == kMetered) {
    return "the network is metered; events wait for another one ([forward] metered)";
  }
  if (rule == kBattery) {
    return "the battery is low; events wait for mains power ([forward] battery_min_percent)";
  }
  if (rule == kBudgetRule) {
    return "the day's bytes are sent; events wait until 24 hours after the first of them "
           "([forward] network_bytes_per_day_max)";
  }
  return "";
}

}  // namespace telemetryd::schedule
