// store/commit_plan.h: what a group of frames comes to, before anything is written.
//
// Planning reads and decides; writing follows the plan to the letter and may be repeated after a
// rollback; only the commit makes the plan true in memory.
//
// Thread:  store thread. Points into the group it was made from.

#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "store/books.h"
#include "store/client_cache.h"
#include "store/store.h"

namespace telemetryd::store {

// One row to be: consecutive frames of one client with equal class and urgency.
struct PlannedRow {
  AppId app = 0;
  std::vector<const Append*> frames;  // in the order of their numbers
  std::uint64_t bytes = 0;
  event::BatchSummary summary;
};

struct PlannedClient {
  // The app of the connection whose frames come now; nothing: there is no place for it.
  std::optional<AppId> app;
  std::optional<std::uint64_t> known;  // high water on disk
  std::uint64_t first_frame = 0;       // where HELLO made it go on; 0: it did not
  std::uint64_t high_water = 0;
  bool moved = false;
  std::uint64_t in_rows = 0;  // the newest frame that a row of the plan holds
  // Index of the row that still takes frames; none: -1.
  std::ptrdiff_t open_row = -1;
};

struct CommitPlan {
  std::vector<Answer> answers;
  std::vector<PlannedRow> rows;
  std::unordered_map<ClientKey, PlannedClient, ClientKeyHash> clients;
  NewApps new_apps;
  Moves moves;
  std::uint64_t bytes = 0;      // events of all rows
  std::uint64_t footprint = 0;  // what the tables grow by: contexts, columns and entries too

  bool writes_nothing() const { return rows.empty() && moves.empty() && !any_client_moved; }

  bool any_client_moved = false;
  // Ledger and clients follow from the rows; there is nothing else to remember.
  bool rows_say_it_all = false;
};

}  // namespace telemetryd::store
