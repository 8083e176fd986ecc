// policy/policy.h: what may be collected from whom, from machine policy and people's records.
//
// Holds the daemon's side of consent in memory; the store has the records (they are written through
// it before they count here). The same resolver as in the client (consent/consent.h) decides.
//
// Thread:  loop.

#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "consent/consent.h"
#include "store/store.h"

namespace telemetryd::policy {

class Policy {
 public:
  Policy(consent::MachinePolicy machine, const std::vector<store::ConsentRecord>& records);

  consent::Decision decide(std::uint32_t uid, std::string_view app) const;
  void set_machine(consent::MachinePolicy machine);

  consent::MachinePolicy machine() const { return machine_; }

  // After the store has it.
  void set(const store::ConsentRecord& record);
  std::vector<store::ConsentRecord> records() const;

  // (uid, app) among `known` that may not be sent now: mode local or off.
  std::set<std::pair<std::uint32_t, std::string>> held() const;

 private:
  consent::MachinePolicy machine_;
  std::map<std::pair<std::uint32_t, std::string>, store::ConsentRecord> records_;
};

}  // namespace telemetryd::policy
