// schedule/sync_policy.h: what may leave the machine as it stands now, and which rule says so.
//
// A network that costs money and a battery that runs low are the person's, not ours. Each rule
// allows everything, urgent events or nothing; where several apply the strictest decides, so that
// its name is the one to show. A person who asks by hand overrules `urgent` and what we believe
// about the network, but not `never`: that was said by whoever pays (ADR 0022).
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <string_view>

#include "schedule/lease_codec.h"

namespace telemetryd::schedule {

// In the order of strictness.
enum class Permit { kAll, kUrgent, kNothing };

struct SyncPolicy {
  Permit metered = Permit::kUrgent;
  Permit roaming = Permit::kNothing;
  std::uint32_t battery_percent_min = 20;  // below it only urgent events leave; 0: whatever it is
};

struct Permission {
  Permit permit = Permit::kAll;
  std::string_view rule;  // "offline", "roaming", "metered", "battery"; empty with kAll
};

// The rule of whoever has sent a day's bytes; no person overrules it, and time ends it.
inline constexpr std::string_view kBudgetRule = "budget";

// What nobody tells counts as unmetered and as mains.
Permission permission(const SyncPolicy& policy, const Conditions& conditions, bool by_hand);

// The sentence for a person who waits for what the rule keeps back; empty for no rule.
std::string_view explain(std::string_view rule);

}  // namespace telemetryd::schedule
