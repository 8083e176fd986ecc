#include "schedule/sync_policy.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace telemetryd::schedule {
namespace {

constexpr auto kAll = Permit::kAll;
constexpr auto kUrgent = Permit::kUrgent;
constexpr auto kNothing = Permit::kNothing;
constexpr auto kUnmetered = Network::kUnmetered;
constexpr auto kMetered = Network::kMetered;
constexpr auto kRoaming = Network::kRoaming;
constexpr auto kOffline = Network::kOffline;
constexpr auto kMains = Power::kMains;
constexpr auto kBattery = Power::kBattery;

struct Row {
  Network network;
  Power power;
  std::uint32_t percent;
  Permit permit;
  std::string rule;
  Permit by_hand;
};

void expect_rows(const SyncPolicy& policy, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    const Conditions conditions{row.network, row.power, row.percent};
    SCOPED_TRACE(testing::Message() << "network " << static_cast<int>(row.network) << ", power "
                                    << static_cast<int>(row.power) << ", " << row.percent << " %");
    const Permission permitted = permission(policy, conditions, false);
    EXPECT_EQ(permitted.permit, row.permit);
    EXPECT_EQ(permitted.rule, row.rule);
    const Permission asked = permission(policy, conditions, true);
    EXPECT_EQ(asked.permit, row.by_hand);
    EXPECT_EQ(asked.rule, asked.permit == kAll ? "" : row.rule);
    EXPECT_EQ(explain(permitted.rule).empty(), row.permit == kAll);
  }
}

TEST(SyncPolicy, HoldsItsTable) {
  expect_rows({},
              {
                  {Network::kUnspecified, Power::kUnspecified, 100, kAll, "", kAll},
                  {Network::kUnspecified, Power::kUnspecified, 5, kAll, "", kAll},
                  {kUnmetered, kMains, 5, kAll, "", kAll},
                  {kUnmetered, kBattery, 20, kAll, "", kAll},
                  {kUnmetered, kBattery, 19, kUrgent, "battery", kAll},
                  {Network::kUnspecified, kBattery, 19, kUrgent, "battery", kAll},
                  {kMetered, kMains, 100, kUrgent, "metered", kAll},
                  {kMetered, Power::kUnspecified, 100, kUrgent, "metered", kAll},
                  {kMetered, kBattery, 19, kUrgent, "metered", kAll},
                  {kRoaming, kMains, 100, kNothing, "roaming", kNothing},
                  {kRoaming, kBattery, 19, kNothing, "roaming", kNothing},
                  {kOffline, kMains, 100, kNothing, "offline", kAll},
                  {kOffline, kBattery, 19, kNothing, "offline", kAll},
              });
}

TEST(SyncPolicy, AlwaysLeavesOnlyTheOtherRules) {
  expect_rows({.metered = kAll, .roaming = kAll, .battery_percent_min = 20},
              {
                  {kMetered, kMains, 100, kAll, "", kAll},
                  {kRoaming, kMains, 100, kAll, "", kAll},
                  {kMetered, kBattery, 19, kUrgent, "battery", kAll},
                  {kRoaming, kBattery, 19, kUrgent, "battery", kAll},
              });
}

TEST(SyncPolicy, NeverIsNotOverruledByHand) {
  expect_rows({.metered = kNothing, .roaming = kUrgent, .battery_percent_min = 0},
              {
                  {kMetered, kMains, 100, kNothing, "metered", kNothing},
                  {kMetered, kBattery, 1, kNothing, "metered", kNothing},
                  {kRoaming, kMains, 100, kUrgent, "roaming", kAll},
                  {kUnmetered, kBattery, 1, kAll, "", kAll},
              });
}

}  // namespace
}  // namespace telemetryd::schedule
