#include <utility>

#include "store/row_bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

struct Counted {
  std::int64_t queued = 0;
  std::int64_t queued_bytes = 0;
  std::int64_t parked = 0;
};

void compare_account(const std::string& app,
                     std::string_view account_name,
                     std::int64_t booked,
                     std::int64_t counted,
                     std::vector<std::string>& problems) {
  if (booked == counted) return;
  problems.push_back("app " + app + ": the ledger says " + std::to_string(booked) + " " +
                     std::string(account_name) + ", the rows say " + std::to_string(counted));
}

}  // namespace

Result<LedgerCheck> SqliteStore::check_ledger() {
  TELEMETRYD_TRY(usable());
  LedgerCheck check;
  std::map<AppId, Counted> counted;
  std::map<Seq, std::uint32_t> partial;
  {
    TELEMETRYD_ASSIGN(Statement select, db_.prepare("SELECT seq, next_index FROM delivery"));
    for (Rows rows = select.query();;) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      partial[static_cast<Seq>(rows.integer(0))] = static_cast<std::uint32_t>(rows.integer(1));
    }
  }
  if (partial != next_indexes_) check.problems.push_back("delivery differs from memory");
  {
    TELEMETRYD_ASSIGN(Statement select,
                      db_.prepare("SELECT seq, app, count, crc, context, blob, uid, "
                                  "instance, last_frame FROM events"));
    for (Rows rows = select.query();;) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      ++check.rows;
      const auto seq = static_cast<Seq>(rows.integer(0));
      const std::string_view blob = rows.bytes(5);
      Counted& app = counted[rows.integer(1)];
      app.queued += rows.integer(2);
      app.queued_bytes += static_cast<std::int64_t>(blob.size());
      if (const auto found_partial = partial.find(seq); found_partial != partial.end()) {
        app.queued -= found_partial->second;
        partial.erase(found_partial);
      }
      const auto events = count_events(blob);
      const RowColumns columns{.uid = static_cast<std::uint32_t>(rows.integer(6)),
                               .app = rows.integer(1),
                               .count = rows.integer(2),
                               .instance = rows.bytes(7),
                               .last_frame = static_cast<std::uint64_t>(rows.integer(8))};
      if (rows.integer(3) != row_crc(columns, rows.bytes(4), blob)) {
        check.problems.push_back("row " + std::to_string(seq) + ": checksum does not match");
      } else if (!events || *events != rows.integer(2)) {
        check.problems.push_back("row " + std::to_string(seq) + ": wrong number of events");
      }
    }
  }
  if (!partial.empty()) check.problems.push_back("delivery speaks of rows that are gone");
  {
    TELEMETRYD_ASSIGN(Statement select, db_.prepare("SELECT app, count(*) FROM dead GROUP BY app"));
    for (Rows rows = select.query();;) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      counted[rows.integer(0)].parked = rows.integer(1);
    }
  }

  // The books as the disk has them, so that a wrong cache shows as well: the tables, and what rows
  // say that are not booked yet. Nothing is booked for it; a check must work on a full disk.
  Books stored;
  TELEMETRYD_TRY(stored.load(db_));
  stored.apply(unbooked_.moves());
  for (const auto& [app, accounts] : stored.all()) {
    const std::string& name = stored.name(app);
    const Counted rows = std::exchange(counted[app], {});
    compare_account(
        name, account::kQueued, accounts.total(account::kQueued), rows.queued, check.problems);
    compare_account(name,
                    account::kQueuedBytes,
                    accounts.total(account::kQueuedBytes),
                    rows.queued_bytes,
                    check.problems);
    compare_account(
        name, account::kParked, accounts.total(account::kParked), rows.parked, check.problems);
    if (const std::int64_t rest = accounts.imbalance(); rest != 0) {
      check.problems.push_back("app " + name +
                               ": accepted events without a place: " + std::to_string(rest));
    }
    const auto cached = books_.all().find(app);
    if (cached == books_.all().end() || cached->second.all() != accounts.all()) {
      check.problems.push_back("app " + name + ": memory and database disagree");
    }
  }
  for (const auto& [app, rows] : counted) {
    if (rows.queued != 0 || rows.parked != 0) {
      check.problems.push_back("rows of an app without a ledger: " + std::to_string(app));
    }
  }
  check.balanced = check.problems.empty();
  return check;
}

}  // namespace telemetryd::store
