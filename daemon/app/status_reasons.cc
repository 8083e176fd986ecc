#include "app/status_reasons.h"

#include <filesystem>

#include <fmt/format.h>

namespace telemetryd::app {
namespace {

// From here on the store makes room or refuses.
bool nearly_full(const Observed& observed) {
  return observed.store && observed.store_bytes_max > 0 &&
         observed.store_bytes >= observed.store_bytes_max / 20 * 19;
}

// The word first, for programs that look for it.
std::string sentence(const store::Trouble& trouble) {
  return trouble.word + ": " + trouble.text;
}

std::string set_aside(const Observed& observed) {
  if (observed.quarantined_stores == 1) {
    return fmt::format(
        "a store was set aside as damaged and takes a part of bytes_max: telemetryd-salvage {} "
        "brings back what can be read; remove the folder when it says so",
        observed.quarantined_newest);
  }
  return fmt::format(
      "{} stores were set aside as damaged and take a part of bytes_max: telemetryd-salvage brings "
      "back what can be read of each folder in {}; remove each when it says so",
      observed.quarantined_stores,
      std::filesystem::path(observed.quarantined_newest).parent_path().native());
}

}  // namespace

std::vector<std::string> not_ready(const Observed& observed) {
  std::vector<std::string> out;
  if (observed.stopping) out.emplace_back("telemetryd is stopping");
  if (nearly_full(observed) && observed.refuse_when_full) {
    out.push_back(fmt::format("the store is full: {} of {} bytes; apps are told to try again later",
                              observed.store_bytes,
                              observed.store_bytes_max));
  }
  for (const store::Trouble& trouble : observed.troubles) {
    if (trouble.refuses_events) out.push_back(sentence(trouble));
  }
  return out;
}

std::vector<std::string> reasons(const Observed& observed) {
  std::vector<std::string> out = not_ready(observed);
  if (observed.policy_off) {
    out.emplace_back("the machine's policy is off: nothing is collected or stored");
  }
  for (const store::Trouble& trouble : observed.troubles) {
    if (!trouble.refuses_events) out.push_back(sentence(trouble));
  }
  if (observed.loss) out.push_back("events were lost: " + *observed.loss);
  if (observed.quarantined_stores > 0) {
    out.push_back(set_aside(observed));
  }
  if (!observed.balanced) {
    out.emplace_back("the ledger does not balance; telemetryctl ledger check says where");
  }
  if (nearly_full(observed) && !observed.refuse_when_full) {
    out.push_back(fmt::format("the store is full: {} of {} bytes; the oldest events make room",
                              observed.store_bytes,
                              observed.store_bytes_max));
  }
  if (!observed.gateway_problem.empty()) out.push_back(observed.gateway_problem);
  for (const auto& destination : observed.destinations) {
    for (const auto& [app, seconds] : destination.muted_s) {
      out.push_back(
          fmt::format("destination {} asked for no events of app {} for {} s more; they wait",
                      destination.name,
                      app,
                      seconds));
    }
    if (destination.state != "held" && destination.state != "backoff") continue;
    out.push_back(fmt::format(
        "destination {} is {} after {} failed {}: {}",
        destination.name,
        destination.state == "backoff" ? "in backoff" : destination.state,
        destination.attempts,
        destination.attempts == 1 ? "attempt" : "attempts",
        destination.last_error.empty() ? "no error was given" : destination.last_error));
  }
  for (const AppQueue& app : observed.apps) {
    if (app.destination || app.events == 0) continue;
    out.push_back(fmt::format("no destination for app {}: its {} events are kept here and not sent",
                              app.name,
                              app.events));
  }
  return out;
}

}  // namespace telemetryd::app
