// server/event_query.h: what the command line asks about stored events.
//
// Thread:  as its Database.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "server/database.h"

namespace telemetryd::server {

struct EventFilter {
  std::optional<std::string> organization;
  std::optional<std::string> application;
};

struct LedgerRow {
  std::string organization;
  std::string application;
  std::int64_t rows = 0;
  std::int64_t accepted = 0;
  std::int64_t duplicates = 0;
  std::int64_t id_conflict = 0;  // were here with other content; the first one stayed
  std::int64_t rejected = 0;
  std::int64_t batches = 0;
  std::int64_t dnt_requests = 0;  // whose sender asked not to be tracked
  std::int64_t dnt_events = 0;

  bool balances() const { return rows == accepted; }
};

// Rows and counters of one moment.
[[nodiscard]] Result<std::vector<LedgerRow>> read_ledger(Database& database,
                                                         const EventFilter& filter);

// The newest `limit` events in the order they arrived, as docs/formats/event-json.md with
// "received" (a time) and "destination" (org/app) beside it.
[[nodiscard]] Result<void> for_each_event(Database& database,
                                          const EventFilter& filter,
                                          std::int64_t limit,
                                          const std::function<void(const nlohmann::json&)>& visit);

// RFC 3339 in UTC with milliseconds.
std::string time_text(std::int64_t unix_ms);

}  // namespace telemetryd::server
