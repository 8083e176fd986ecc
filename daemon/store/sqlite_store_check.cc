#include <algorithm>
#include <utility>

#include "base/log.h"
#include "store/row_bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

constexpr BootMs kRecountIntervalMs = 60'000;

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

// By their columns, which have a checksum of their own; rows whose columns are wrong add nothing,
// because nobody knows what they were.
Result<std::map<AppId, CountedRows>> SqliteStore::count_rows(const std::set<Seq>& without) {
  std::map<AppId, CountedRows> counted;
  TELEMETRYD_ASSIGN(Statement select,
                    db_.prepare("SELECT seq, uid, app, count, crc, instance, last_frame, "
                                "length(blob) FROM events"));
  for (Rows rows = select.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) break;
    const auto seq = static_cast<Seq>(rows.integer(0));
    const RowColumns columns{.uid = static_cast<std::uint32_t>(rows.integer(1)),
                             .app = rows.integer(2),
                             .count = rows.integer(3),
                             .instance = rows.bytes(5),
                             .last_frame = static_cast<std::uint64_t>(rows.integer(6))};
    if (without.contains(seq) || !columns_match(rows.integer(4), columns)) continue;
    if (books_.name(columns.app).empty()) continue;
    const auto partial = next_indexes_.find(seq);
    const std::int64_t delivered = partial == next_indexes_.end() ? 0 : partial->second;
    counted[columns.app].queued += std::max<std::int64_t>(columns.count - delivered, 0);
    counted[columns.app].queued_bytes += rows.integer(7);
  }
  TELEMETRYD_ASSIGN(Statement dead, db_.prepare("SELECT app, count(*) FROM dead GROUP BY app"));
  const auto other = books_.find(kOtherApp);
  for (Rows rows = dead.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) return counted;
    const bool known = !books_.name(rows.integer(0)).empty();
    counted[known || !other ? rows.integer(0) : *other].parked += rows.integer(1);
  }
}

// What makes the books say what the rows say, `without` some that go now. What was accepted and is
// nowhere is lost; what is somewhere was accepted, whatever a damaged book says.
Result<Moves> SqliteStore::follow_rows(const std::set<Seq>& without) {
  TELEMETRYD_ASSIGN(auto counted, count_rows(without));
  Moves moves;
  for (const auto& [app, accounts] : books_.all()) {
    const CountedRows& rows = counted[app];
    const std::int64_t queued = rows.queued - accounts.total(account::kQueued);
    const std::int64_t parked = rows.parked - accounts.total(account::kParked);
    moves.add(app, account::kQueued, reason::kNone, queued);
    moves.add(app, account::kParked, reason::kNone, parked);
    moves.add(app,
              account::kQueuedBytes,
              reason::kNone,
              rows.queued_bytes - accounts.total(account::kQueuedBytes));
    const std::int64_t rest = accounts.imbalance() - queued - parked;
    if (rest > 0) moves.add(app, account::kLost, reason::kDamage, rest);
    if (rest < 0) moves.add(app, account::kAccepted, reason::kNone, -rest);
  }
  return moves;
}

// Only damage unbalances the books, so the rows are counted only then. In memory they are right at
// once, because the witness is compared with them; the first transaction writes what was wrong.
Result<void> SqliteStore::correct_books() {
  // Bytes are no part of the identity, but no row is without.
  const auto wrong = [](const auto& entry) {
    const Accounts& accounts = entry.second;
    return accounts.imbalance() != 0 ||
           (accounts.total(account::kQueued) > 0 && accounts.total(account::kQueuedBytes) <= 0);
  };
  if (!books_.met_unbelievable() && std::ranges::none_of(books_.all(), wrong)) return {};
  inherit_orphans();
  TELEMETRYD_ASSIGN(const Moves moves, follow_rows({}));
  books_.apply(moves);
  correction_.moves.add(moves);
  log::error("ledger_corrected", {{"accounts", correction_.moves.all().size()}});
  return {};
}

// What is known of apps whose names are lost goes on under kOtherApp.
void SqliteStore::inherit_orphans() {
  if (books_.orphans().empty()) return;
  const AppId other = books_.find_or_add_other(correction_.new_apps);
  for (const auto& [app, accounts] : books_.orphans()) {
    for (const auto& [name, value] : accounts.all()) {
      correction_.moves.add(other, name.first, name.second, value);
    }
  }
  books_.apply(correction_.new_apps);
  books_.apply(correction_.moves);
}

// In the caller's transaction. Dead letters of apps whose names are lost wait on as kOtherApp's;
// their rows can go nowhere, and an app that comes later must not get them with their ID.
Result<void> SqliteStore::write_correction() {
  if (books_.met_unbelievable()) TELEMETRYD_TRY(Books::drop_unbelievable(db_));
  TELEMETRYD_TRY(books_.write(correction_.new_apps));
  TELEMETRYD_TRY(books_.write(correction_.moves));
  if (books_.orphans().empty()) return {};
  TELEMETRYD_ASSIGN(Statement adopt,
                    db_.prepare("UPDATE dead SET app=? WHERE app NOT IN (SELECT id FROM apps)"));
  TELEMETRYD_TRY(adopt.run(*books_.find(kOtherApp)));
  TELEMETRYD_TRY(
      db_.exec("DELETE FROM delivery WHERE seq IN "
               "(SELECT seq FROM events WHERE app NOT IN (SELECT id FROM apps))"));
  return db_.exec("DELETE FROM events WHERE app NOT IN (SELECT id FROM apps)");
}

// After rows whose blobs had another length than was written; once for all that a while brings.
Result<void> SqliteStore::recount() {
  const BootMs now = clock_.boot_ms();
  if (!recount_due_) return {};
  if (recounted_boot_ms_ && now - *recounted_boot_ms_ < kRecountIntervalMs) return {};
  recounted_boot_ms_ = now;
  TELEMETRYD_ASSIGN(const Moves moves, follow_rows({}));
  TELEMETRYD_TRY(transact([&] { return books_.write(moves); }));
  books_.apply(moves);
  recount_due_ = false;
  return {};
}

Result<LedgerCheck> SqliteStore::check_ledger() {
  TELEMETRYD_TRY(usable());
  LedgerCheck check;
  std::map<AppId, CountedRows> counted;
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
      const RowColumns columns{.uid = static_cast<std::uint32_t>(rows.integer(6)),
                               .app = rows.integer(1),
                               .count = rows.integer(2),
                               .instance = rows.bytes(7),
                               .last_frame = static_cast<std::uint64_t>(rows.integer(8))};
      const auto delivered = partial.extract(seq);
      if (rows.integer(3) != row_crc(columns, rows.bytes(4), blob)) {
        check.problems.push_back("row " + std::to_string(seq) + ": checksum does not match");
        // Its numbers are not what was written; adding them could say anything.
        if (!columns_match(rows.integer(3), columns)) continue;
      } else if (count_events(blob) != columns.count) {
        check.problems.push_back("row " + std::to_string(seq) + ": wrong number of events");
      }
      CountedRows& app = counted[columns.app];
      app.queued += columns.count - (delivered.empty() ? 0 : delivered.mapped());
      app.queued_bytes += static_cast<std::int64_t>(blob.size());
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
    const CountedRows rows = std::exchange(counted[app], {});
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
