#include <algorithm>
#include <array>
#include <chrono>
#include <sys/stat.h>

#include "base/log.h"
#include "store/quarantine.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

// A thousandth of the thread's time at most, and never a wake-up: slices come behind other work.
constexpr BootMs kSliceIntervalMs = 250;
constexpr std::chrono::microseconds kSliceMax{250};
constexpr BootMs kPauseMaxMs = 3'600'000;

// Small ones, checked whole; events and dead letters are read row by row.
constexpr std::array kSmallTables = {"meta",
                                     "epochs",
                                     "apps",
                                     "delivery",
                                     "clients",
                                     "ledger",
                                     "destinations",
                                     "consent",
                                     "identity"};

}  // namespace

// Pages of the database are wrong. Whatever is done with it now may make it worse, so nothing is
// done: the process ends, and the next start sets the store aside.
void SqliteStore::give_up() {
  outcome_unknown_ = true;
  roll_back();
  log::error("damage_found", {{"cause", db_.damage()}});
  if (auto noted = condemn(files_, db_.damage()); !noted) {
    log::error("damage_not_noted", {{"cause", noted.error().message()}});
  }
  if (auto written = write_witness(true, false); !written) {
    log::warn("last_witness_not_written", {{"cause", written.error().message()}});
  }
}

// Whoever removes the folder leaves us writing to files that nobody can find again.
Result<void> SqliteStore::still_there() {
  int moved = 0;
  const int code = sqlite3_file_control(db_.handle(), "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  if (code != SQLITE_OK || moved == 0) return {};
  outcome_unknown_ = true;
  leave_witness();
  return fail(ErrorCode::kUnknownOutcome,
              files_.database.native() +
                  " was moved or removed while telemetryd used it; the next start makes a new "
                  "store and counts what was in this one as lost");
}

// For the next start, which knows nothing else of the store that went. One that another process
// has put there meanwhile stays.
void SqliteStore::leave_witness() {
  ::mkdir(options_.state_dir.c_str(), 0700);
  std::error_code unreadable;
  if (std::filesystem::exists(files_.witness, unreadable)) return;
  auto file = VfsFile::open(files_.witness.native(), options_.vfs);
  if (!file) {
    log::error("loss_not_noted", {{"cause", file.error().message()}});
    return;
  }
  witness_file_ = std::move(*file);
  if (auto written = write_witness(true, false); !written) {
    log::error("loss_not_noted_whole", {{"cause", written.error().message()}});
  }
}

// The whole store once per run, a little at a time: SQLite notices a wrong page only when it reads
// it, and a row that nobody leases may wait for weeks.
void SqliteStore::verify_slice() {
  const BootMs now = clock_.boot_ms();
  if (verification_.done || now < verification_.next_boot_ms) return;
  verification_.next_boot_ms = now + kSliceIntervalMs;
  const auto verified = verify_next();
  if (verified || !db_.damage().empty()) return;
  // Nobody waits for it: other work goes on, and it goes on from here later.
  verification_.next_boot_ms = now + verification_.pause_ms;
  verification_.pause_ms = std::min(2 * verification_.pause_ms, kPauseMaxMs);
  log::warn("verification_delayed", {{"cause", verified.error().message()}});
}

Result<void> SqliteStore::verify_next() {
  if (verification_.tables < kSmallTables.size()) {
    TELEMETRYD_TRY(verify_table(kSmallTables[verification_.tables]));
    ++verification_.tables;
    return {};
  }
  // Not the Clock: this measures the disk, and decides nothing but how far a slice gets.
  const auto end = std::chrono::steady_clock::now() + kSliceMax;
  do {
    TELEMETRYD_TRY(verify_row());
  } while (!verification_.done && std::chrono::steady_clock::now() < end);
  return {};
}

// quick_check speaks of a read that failed as of a page that is wrong, so its word is no proof:
// reading the table says by its result which of the two it was.
Result<void> SqliteStore::verify_table(const std::string& table) {
  TELEMETRYD_ASSIGN(const std::string found, db_.ask("PRAGMA quick_check('" + table + "')"));
  if (found == "ok") return {};
  TELEMETRYD_ASSIGN(Statement select, db_.prepare("SELECT * FROM " + table));
  for (Rows rows = select.query();;) {
    TELEMETRYD_ASSIGN(const bool more, rows.next());
    if (!more) return fail(ErrorCode::kUnavailable, table + ": " + found);
  }
}

// Events first, then dead letters.
Result<void> SqliteStore::verify_row() {
  if (!verification_.events_done) {
    TELEMETRYD_ASSIGN(Statement next,
                      db_.prepare("SELECT seq FROM events WHERE seq>=? ORDER BY seq LIMIT 1"));
    Result<bool> found = false;
    Seq seq = 0;
    {
      Rows rows = next.query(verification_.from);
      found = rows.next();
      if (found && *found) seq = static_cast<Seq>(rows.integer(0));
    }
    if (!found) {
      TELEMETRYD_ASSIGN(verification_.from, skip_unreadable(verification_.from, found.error()));
      return {};
    }
    if (!*found) {
      verification_.events_done = true;
      verification_.from = 0;
      return {};
    }
    const auto row = load_row(seq);
    if (!row && row.error().code() == ErrorCode::kDataLoss) return fail(row.error());
    verification_.from = seq + 1;
    if (!row) {
      unreadable_.note(seq, seq + 1, clock_.boot_ms(), row.error());
    } else if (*row && (*row)->damaged && !leased_.contains(seq)) {
      return remove_damaged({**row});
    }
    return {};
  }
  TELEMETRYD_ASSIGN(Statement next,
                    db_.prepare("SELECT id, context, blob FROM dead WHERE id>=? LIMIT 1"));
  Rows rows = next.query(verification_.from);
  TELEMETRYD_ASSIGN(const bool found, rows.next());
  verification_.done = !found;
  if (!found) {
    log::debug("store_verified");
    return {};
  }
  verification_.from = static_cast<Seq>(rows.integer(0)) + 1;
  // The pages behind the columns are read only when somebody asks for their bytes.
  (void)rows.bytes(1);
  (void)rows.bytes(2);
  return {};
}

}  // namespace telemetryd::store
