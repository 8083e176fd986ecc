#include <algorithm>

#include "base/log.h"
#include "store/schema.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

// Pages that B-trees and the free list may take beyond a row's own bytes.
constexpr std::int64_t kSparePages = 32;

// Rows of earlier epochs that one eviction looks at to learn whose they are.
constexpr int kLookRowsMax = 4096;

constexpr BootMs kEvictionLogIntervalMs = 10'000;

}  // namespace

Result<bool> SqliteStore::at_page_limit(std::uint64_t bytes) {
  TELEMETRYD_ASSIGN(const std::int64_t pages, db_.ask_integer("PRAGMA page_count"));
  TELEMETRYD_ASSIGN(const std::int64_t unused, db_.ask_integer("PRAGMA freelist_count"));
  const std::int64_t room = static_cast<std::int64_t>(quota_.pages) - pages + unused;
  const auto needed = static_cast<std::int64_t>(bytes / (kPageBytes / 2));
  return room < needed + kSparePages;
}

// A start reads no backlog. The oldest rows are looked at first, and they are those that leave.
Result<void> SqliteStore::look_at_older_rows() {
  std::optional<Rows> scan;
  for (int i = 0; i < kLookRowsMax && shares_looked_ < shares_added_; ++i) {
    if (!scan) scan.emplace(sql_.scan_rows.query(shares_looked_));
    const auto found = scan->next();
    if (!found) {
      scan.reset();
      TELEMETRYD_ASSIGN(const Seq behind, skip_unreadable(shares_looked_, found.error()));
      shares_looked_ = std::min(behind, shares_added_);
      continue;
    }
    const Rows& rows = *scan;
    const Seq seq = *found ? static_cast<Seq>(rows.integer(0)) : shares_added_;
    shares_looked_ = std::min(seq + 1, shares_added_);
    if (seq >= shares_added_) return {};
    shares_.add({static_cast<std::uint32_t>(rows.integer(1)),
                 rows.integer(2),
                 static_cast<event::Class>(rows.integer(5))},
                seq,
                static_cast<std::uint64_t>(rows.integer(4)) + kRowOverheadBytes);
  }
  return {};
}

// From the oldest row on, a portion with each eviction.
void SqliteStore::count_shares_anew() {
  shares_ = Shares();
  shares_looked_ = 0;
  shares_added_ = next_seq_;
}

// A row that left for another reason than eviction.
void SqliteStore::leave_share(Seq seq, const Owner& owner, std::uint64_t blob_bytes) {
  const bool counted = seq >= shares_added_ || seq < shares_looked_;
  if (counted) shares_.remove(owner, blob_bytes + kRowOverheadBytes);
}

// What would leave for so many bytes. Before the transaction, because a read that fails within one
// takes all of it back. In small portions, so that two who have about as much give way in turns.
Result<Eviction> SqliteStore::plan_eviction(std::uint64_t bytes) {
  retry_unreadable();
  if (shares_looked_ >= shares_added_ && shares_.outdated()) count_shares_anew();
  Eviction eviction;
  TELEMETRYD_TRY(pass_over(look_at_older_rows(), eviction));
  Shares shares = shares_;
  std::set<Owner> nothing_left;
  while (eviction.bytes < bytes) {
    const std::optional<Owner> owner = shares.next_to_give_way(nothing_left);
    if (!owner) break;
    const std::uint64_t portion = std::min(bytes, eviction.bytes + kEvictBytesMin);
    TELEMETRYD_ASSIGN(const bool more, choose_rows_of(*owner, portion, shares, eviction));
    if (!more) nothing_left.insert(*owner);
  }
  eviction.shares = std::move(shares);
  TELEMETRYD_TRY(pass_over(choose_dead(bytes, eviction), eviction));
  if (eviction.empty() && eviction.unreadable) return fail(*eviction.unreadable);
  return eviction;
}

// What cannot be read stays, and what can leaves in its place. Only a wrong page ends everything.
Result<void> SqliteStore::pass_over(const Result<void>& read, Eviction& eviction) {
  if (read) return {};
  if (read.error().code() != ErrorCode::kUnavailable) return fail(read.error());
  if (!eviction.unreadable) eviction.unreadable = read.error();
  return usable();
}

// Dead letters wait for a person who may never come; they leave last, but they cannot be let fill
// the store.
Result<void> SqliteStore::choose_dead(std::uint64_t bytes, Eviction& eviction) {
  if (eviction.bytes >= bytes) return {};
  TELEMETRYD_ASSIGN(
      Statement select,
      db_.prepare("SELECT id, app, length(context) + length(blob) FROM dead ORDER BY id"));
  Rows rows = select.query();
  while (eviction.bytes < bytes) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) break;
    eviction.moves.add(rows.integer(1), account::kParked, reason::kNone, -1);
    eviction.moves.add(rows.integer(1), account::kEvicted, reason::kQuota, 1);
    eviction.bytes += static_cast<std::uint64_t>(rows.integer(2)) + kRowOverheadBytes;
    eviction.dead.push_back(rows.integer(0));
  }
  return {};
}

// Where the owner's rows can be read again, `at` being where they cannot. Rows of the normal class
// are found in the table, others by the index, which may still be readable.
Result<Seq> SqliteStore::behind_unreadable(const Owner& owner, Seq at, const Error& cause) {
  if (owner.persistence_class == event::Class::kNormal) return skip_unreadable(at, cause);
  TELEMETRYD_ASSIGN(Statement next,
                    db_.prepare("SELECT seq FROM events INDEXED BY events_by_class "
                                "WHERE class<>0 AND class=? AND seq>=? ORDER BY seq LIMIT 1"));
  Seq seq = at;
  {
    Rows rows = next.query(static_cast<int>(owner.persistence_class), at);
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (found) seq = static_cast<Seq>(rows.integer(0));
  }
  return skip_unreadable(seq, cause);
}

void SqliteStore::choose_row(
    Seq seq, AppId app, std::int64_t count, std::int64_t blob_bytes, Eviction& eviction) const {
  const auto partial = next_indexes_.find(seq);
  const std::int64_t delivered = partial == next_indexes_.end() ? 0 : partial->second;
  eviction.moves.add(app, account::kQueued, reason::kNone, delivered - count);
  eviction.moves.add(app, account::kEvicted, reason::kQuota, count - delivered);
  eviction.moves.add(app, account::kQueuedBytes, reason::kNone, -blob_bytes);
  eviction.bytes += static_cast<std::uint64_t>(blob_bytes) + kRowOverheadBytes;
  eviction.rows.insert(seq);
}

// The owner's oldest rows until so many bytes have left; false when no more of them can. What lies
// between them is passed once, and remembered.
Result<bool> SqliteStore::choose_rows_of(const Owner& owner,
                                         std::uint64_t bytes,
                                         Shares& shares,
                                         Eviction& eviction) {
  // Normal rows are the only ones outside the index by class.
  const bool normal = owner.persistence_class == event::Class::kNormal;
  TELEMETRYD_ASSIGN(
      Statement select,
      db_.prepare(std::string("SELECT uid, app, count, crc, instance, last_frame, seq, "
                              "length(blob) FROM events WHERE ") +
                  (normal ? "class=? AND seq>=? ORDER BY seq"
                          : "class<>0 AND class=? AND seq>=? ORDER BY seq")));
  const int persistence_class = static_cast<int>(owner.persistence_class);
  bool passed_one_that_stays = false;
  bool more = true;
  Seq first = shares.first(owner);
  Seq at = first;
  std::optional<Rows> scan(select.query(persistence_class, at));
  while (eviction.bytes < bytes) {
    const auto found = scan->next();
    if (!found) {
      scan.reset();
      passed_one_that_stays = true;
      const auto behind = behind_unreadable(owner, at, found.error());
      if (!behind) {
        TELEMETRYD_TRY(pass_over(fail(behind.error()), eviction));
        more = false;
        break;
      }
      at = *behind;
      scan.emplace(select.query(persistence_class, at));
      continue;
    }
    more = *found;
    if (!more) break;
    const Rows& rows = *scan;
    const auto seq = static_cast<Seq>(rows.integer(6));
    at = seq + 1;
    // Rows that nobody has looked at are in no share; another eviction looks further.
    if (seq >= shares_looked_ && seq < shares_added_) {
      passed_one_that_stays = true;
      more = false;
      break;
    }
    // Chosen with an earlier portion.
    if (eviction.rows.contains(seq)) continue;
    const bool theirs = rows.integer(0) == owner.uid && rows.integer(1) == owner.app;
    if (theirs && (leased_.contains(seq) || unreadable_.contains(seq))) {
      passed_one_that_stays = true;
      continue;
    }
    if (theirs && !columns_right(rows, 0)) {
      // It leaves as damaged, in a transaction of its own.
      eviction.wrong.insert(seq);
      passed_one_that_stays = true;
      continue;
    }
    if (!passed_one_that_stays) first = seq + 1;
    if (!theirs) continue;
    choose_row(seq, owner.app, rows.integer(2), rows.integer(7), eviction);
    shares.remove(owner, static_cast<std::uint64_t>(rows.integer(7)) + kRowOverheadBytes);
    // That was the last one; nobody needs to look through everybody else's for another.
    if (!shares.knows(owner)) {
      more = false;
      break;
    }
  }
  if (more || passed_one_that_stays) {
    shares.passed(owner, first);
  } else {
    shares.forget(owner);
  }
  return more;
}

// In the caller's transaction.
Result<void> SqliteStore::write_eviction(Eviction& eviction) {
  eviction.stuck.reset();
  for (const Seq seq : eviction.rows) {
    if (auto deleted = delete_row(seq); !deleted) {
      // To remove a row SQLite may need the page of its neighbours.
      const int code = sqlite3_extended_errcode(db_.handle());
      if (code == SQLITE_IOERR_READ || code == SQLITE_IOERR_SHORT_READ) eviction.stuck = seq;
      return deleted;
    }
  }
  TELEMETRYD_TRY(drop_letters(eviction.dead));
  return books_.write(eviction.moves);
}

void SqliteStore::apply_eviction(const Eviction& eviction) {
  if (eviction.shares) shares_ = *eviction.shares;
  wrong_rows_.assign(eviction.wrong.begin(), eviction.wrong.end());
  if (eviction.empty()) return;
  books_.apply(eviction.moves);
  for (const Seq seq : eviction.rows) next_indexes_.erase(seq);
  eviction_log_.rows += eviction.rows.size();
  eviction_log_.dead_letters += eviction.dead.size();
  const BootMs now = clock_.boot_ms();
  if (eviction_log_.boot_ms && now - *eviction_log_.boot_ms < kEvictionLogIntervalMs) return;
  // At the quota every few commits evict; the ledger has the count, the log only says that it goes
  // on.
  log::error("events_evicted",
             {{"rows", eviction_log_.rows}, {"dead_letters", eviction_log_.dead_letters}});
  eviction_log_ = {.boot_ms = now};
}

}  // namespace telemetryd::store
