// app/status_reasons.h: what is wrong or noteworthy, in words for a person.
//
// Thread:  any; no state.

#pragma once

#include <string>
#include <vector>

#include "schedule/scheduler.h"
#include "store/store.h"

namespace telemetryd::app {

struct AppQueue {
  std::string name;
  std::optional<std::string> destination;
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
};

struct Observed {
  bool stopping = false;
  bool policy_off = false;  // by a reload with a store, from the start without
  bool store = false;
  bool refuse_when_full = false;
  std::optional<std::string> loss;
  std::uint64_t quarantined_stores = 0;
  std::string quarantined_newest;        // its folder
  std::vector<store::Trouble> troubles;  // of the store
  std::string gateway_problem;           // empty: none
  std::uint64_t store_bytes = 0;
  std::uint64_t store_bytes_max = 0;
  bool balanced = true;
  std::vector<AppQueue> apps;
  std::vector<schedule::DestinationStatus> destinations;
};

// One sentence each, the worst first; empty when all is well.
std::vector<std::string> reasons(const Observed& observed);

// Why new events may not be accepted; a part of the above.
std::vector<std::string> not_ready(const Observed& observed);

}  // namespace telemetryd::app
