#include "policy/policy.h"

#include <gtest/gtest.h>

namespace telemetryd::policy {
namespace {

using consent::MachinePolicy;
using consent::Mode;
using store::Consent;
using Held = std::set<std::pair<std::uint32_t, std::string>>;

constexpr std::uint32_t kAnna = 1000;
constexpr std::uint32_t kBert = 1001;

TEST(Policy, EnabledTurnsCollectionOnForThatUserAndAppAlone) {
  const Policy policy(MachinePolicy::kOptIn, {{kAnna, "tool", Consent::kEnabled, 1}});
  EXPECT_EQ(policy.decide(kAnna, "tool").mode, Mode::kOn);
  EXPECT_STREQ(policy.decide(kAnna, "tool").rule, "app_record");
  EXPECT_NE(policy.decide(kAnna, "other").mode, Mode::kOn);
  EXPECT_NE(policy.decide(kBert, "tool").mode, Mode::kOn);
}

TEST(Policy, OptOutCollectsUntilSomebodySaysNo) {
  Policy policy(MachinePolicy::kOptOut, {});
  EXPECT_EQ(policy.decide(kAnna, "tool").mode, Mode::kOn);
  policy.set({kAnna, "tool", Consent::kDisabled, 1});
  EXPECT_EQ(policy.decide(kAnna, "tool").mode, Mode::kOff);
  EXPECT_EQ(policy.decide(kBert, "tool").mode, Mode::kOn);
}

TEST(Policy, OffForAllToolsWinsOverEnabledForOne) {
  const Policy policy(MachinePolicy::kOptOut,
                      {{kAnna, "", Consent::kDisabled, 1}, {kAnna, "tool", Consent::kEnabled, 2}});
  EXPECT_EQ(policy.decide(kAnna, "tool").mode, Mode::kOff);
}

TEST(Policy, OffForOneToolWinsOverEnabledForAll) {
  const Policy policy(MachinePolicy::kOptIn,
                      {{kAnna, "", Consent::kEnabled, 1}, {kAnna, "tool", Consent::kDisabled, 2}});
  EXPECT_EQ(policy.decide(kAnna, "tool").mode, Mode::kOff);
  EXPECT_EQ(policy.decide(kAnna, "other").mode, Mode::kOn);
}

TEST(Policy, AMachineThatIsOffOverridesEverybody) {
  Policy policy(MachinePolicy::kOptOut, {{kAnna, "tool", Consent::kEnabled, 1}});
  policy.set_machine(MachinePolicy::kOff);
  EXPECT_EQ(policy.decide(kAnna, "tool").mode, Mode::kOff);
  EXPECT_STREQ(policy.decide(kAnna, "tool").rule, "machine_policy");
}

TEST(Policy, WithoutAnAppTheDecisionIsAboutAllTools) {
  const Policy policy(MachinePolicy::kOptIn, {{kAnna, "", Consent::kEnabled, 1}});
  EXPECT_EQ(policy.decide(kAnna, "").mode, Mode::kOn);
  EXPECT_STREQ(policy.decide(kAnna, "").rule, "all_record");
}

TEST(Policy, HoldsWhatIsLocalOrOff) {
  const Policy policy(MachinePolicy::kOptIn,
                      {{kAnna, "a", Consent::kEnabled, 1},
                       {kAnna, "b", Consent::kLocal, 1},
                       {kAnna, "c", Consent::kDisabled, 1},
                       {kBert, "", Consent::kLocal, 1}});
  EXPECT_EQ(policy.held(), (Held{{kAnna, "b"}, {kAnna, "c"}, {kBert, ""}}));
}

TEST(Policy, UnsetForgetsTheRecord) {
  Policy policy(MachinePolicy::kOptOut, {{kAnna, "tool", Consent::kDisabled, 1}});
  policy.set({kAnna, "tool", Consent::kUnset, 2});
  EXPECT_TRUE(policy.records().empty());
  EXPECT_TRUE(policy.held().empty());
  EXPECT_EQ(policy.decide(kAnna, "tool").mode, Mode::kOn);
}

}  // namespace
}  // namespace telemetryd::policy
