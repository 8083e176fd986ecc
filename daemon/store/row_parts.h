// store/row_parts.h: what the verbs of SqliteStore say to each other about rows.
//
// Thread:  store thread; values.

#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/books.h"
#include "store/shares.h"
#include "store/store.h"

namespace telemetryd::store {

// What a row takes beside its blob, roughly.
inline constexpr std::uint64_t kRowOverheadBytes = 128;
inline constexpr std::uint64_t kEvictBytesMin = 64u << 10;
inline constexpr int kEvictAttemptsMax = 12;
// Rows of one eviction that cannot be removed before it is left for later.
inline constexpr int kEvictStuckMax = 64;

// A stored row as far as its columns tell; `context` and `blob` only where asked for.
struct StoredRow {
  Seq seq = 0;
  std::uint32_t uid = 0;
  AppId app = 0;
  event::Class persistence_class{};
  event::Urgency urgency{};
  BootMs accepted_boot_ms = 0;
  UnixMs accepted_unix_ms = 0;
  std::uint32_t count = 0;
  std::uint32_t next_index = 0;  // events before it are delivered
  std::uint64_t bytes = 0;       // of the blob
  std::string context;
  std::string blob;
  bool damaged = false;
  bool columns_right = false;  // they have a checksum, and it matches
};

// What a row says beside its RowColumns; the bytes are the caller's until it is written.
struct RowContent {
  event::Class persistence_class{};
  event::Urgency urgency{};
  std::uint64_t id_ms_min = 0;
  std::uint64_t id_ms_max = 0;
  std::string_view context;
  std::string_view blob;
};

// Rows that a start found damaged before the tables had said what they say. In memory they are
// booked at once; the first transaction removes them.
struct UnbookedDamage {
  std::vector<Seq> rows;
  NewApps new_apps;
  Moves moves;
};

// What a start or a look at rows found wrong in the books, to be written and then applied.
struct Correction {
  NewApps new_apps;
  Moves moves;
};

// What the rows of an app add up to.
struct CountedRows {
  std::int64_t queued = 0;
  std::int64_t queued_bytes = 0;
  std::int64_t parked = 0;
};

// How far the check of this run has come.
struct Verification {
  std::size_t tables = 0;  // of the small ones
  Seq from = 0;            // of the events, then of the dead letters
  bool events_done = false;
  bool done = false;
  BootMs next_boot_ms = 0;   // of the next slice
  BootMs pause_ms = 60'000;  // after an error that says nothing of damage
};

struct LeasedPart {
  Seq seq = 0;
  std::uint32_t uid = 0;
  AppId app = 0;
  event::Class persistence_class{};
  std::uint32_t first_index = 0;
  std::uint32_t count = 0;
  std::uint32_t row_count = 0;
  std::uint64_t row_bytes = 0;
  bool urgent = false;

  // With it the row has left.
  bool ends_row() const { return first_index + count >= row_count; }
};

struct Candidate {
  Seq seq = 0;
  bool alone = false;  // too big for the request: lent in parts
};

// How far an app's rows have been looked at, so that no question scans the table twice.
struct Cursor {
  Seq lease_from = 0;   // every row of the app before it is leased or held
  Seq urgent_from = 0;  // every urgent row likewise
  Seq oldest_from = 0;  // no row of the app before it
  std::set<std::uint32_t> held;

  // The row may be due again. One that is not urgent leaves the search for those where it is: it
  // would never get past a backlog that is delivered meanwhile.
  void back_to(Seq seq, bool urgent) {
    lease_from = std::min(lease_from, seq);
    if (urgent) urgent_from = std::min(urgent_from, seq);
  }
};

// What a lease may take, and how far the search got.
struct DueRows {
  std::vector<Candidate> rows;
  std::map<AppId, Cursor*> cursors;   // of the request's apps
  Seq reached = 0;                    // every due row before it is in `rows`
  std::optional<BootMs> young_until;  // that row is too young still
  bool unfinished = false;            // the search ended before the end of the table
};

// A dead letter on its way back into the queue.
struct ReplayedRow {
  Owner owner;
  event::Urgency urgency{};
  event::BatchSummary summary;
  std::string context;
  std::string blob;
};

struct ReplayPlan {
  std::vector<std::int64_t> letters;  // the ids of those that become rows
  std::vector<ReplayedRow> rows;
  Moves moves;
  std::uint64_t unreadable = 0;
};

// A row that leaves the queue, for whose share it is.
struct Gone {
  Seq seq = 0;
  Owner owner;
  std::uint64_t bytes = 0;
};

// What a commit or a settlement removes to make room for itself.
struct Eviction {
  Moves moves;
  std::set<Seq> rows;              // each is chosen once, though it is there until the transaction
  std::set<Seq> wrong;             // whose columns are not what was written; they stay for now
  std::vector<std::int64_t> dead;  // dead letters, by id
  std::uint64_t bytes = 0;
  std::optional<Shares> shares;     // as they are once it is committed
  std::optional<Error> unreadable;  // why some of what could leave was passed over
  std::optional<Seq> stuck;         // the row whose removal met what cannot be read

  bool empty() const { return rows.empty() && dead.empty(); }
};

// Rows that waited too long, oldest first, and when to look again.
struct Expiry {
  Moves moves;
  std::vector<Gone> rows;
  std::vector<Seq> wrong;  // whose columns are not what was written
  BootMs next_boot_ms = 0;
};

// What the log has not said yet of evictions, and when it last spoke.
struct EvictionLog {
  std::uint64_t rows = 0;
  std::uint64_t dead_letters = 0;
  std::optional<BootMs> boot_ms;
};

// An erase that waits for leases to end; in meta too, so that a crash does not forget it.
struct Erasure {
  std::int64_t number = 0;
  std::uint32_t uid = 0;
  std::string app;
  Seq up_to = 0;
};

struct Erased {
  Moves moves;
  std::vector<Gone> rows;
  std::uint64_t events = 0;
  bool waits = false;  // for a lease
};

}  // namespace telemetryd::store
