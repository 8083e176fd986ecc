#include <algorithm>

#include "base/log.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

// Of one transaction, so that frames and leases wait for it no longer than for a commit.
constexpr std::size_t kExpireRowsMax = 256;
constexpr std::int64_t kExpireBytesMax = 4 << 20;
// After an error, and for old rows that are on their way just now.
constexpr BootMs kExpireRetryMs = 60'000;

}  // namespace

// The oldest rows come first, so one look at the front says whether there is anything to do and
// when there will be.
Result<Expiry> SqliteStore::rows_too_old(BootMs now) {
  Expiry expiry;
  expiry.next_boot_ms = now + options_.event_age_max.count();
  TELEMETRYD_ASSIGN(
      Statement select,
      db_.prepare("SELECT seq, app, count, length(blob), epoch, accepted_boot_ms, uid, "
                  "class, uid, app, count, crc, instance, last_frame "
                  "FROM events WHERE seq>=? ORDER BY seq"));
  Seq at = 0;
  std::optional<Rows> scan(select.query(at));
  std::int64_t bytes = 0;
  bool passed_leased = false;
  while (expiry.rows.size() + expiry.wrong.size() < kExpireRowsMax && bytes < kExpireBytesMax) {
    const auto next = scan->next();
    if (!next) {
      scan.reset();
      TELEMETRYD_ASSIGN(at, skip_unreadable(at, next.error()));
      scan.emplace(select.query(at));
      continue;
    }
    const bool found = *next;
    const Rows& rows = *scan;
    const BootMs left =
        found ? options_.event_age_max.count() -
                    uptime_.age(static_cast<std::uint64_t>(rows.integer(4)), rows.integer(5), now)
              : options_.event_age_max.count();
    if (left > 0) {
      expiry.next_boot_ms = now + (passed_leased ? std::min(left, kExpireRetryMs) : left);
      return expiry;
    }
    const auto seq = static_cast<Seq>(rows.integer(0));
    at = seq + 1;
    if (leased_.contains(seq)) {
      passed_leased = true;
      continue;
    }
    // Nobody wakes up for what the disk does not give back.
    if (unreadable_.contains(seq)) continue;
    if (!columns_right(rows, 8)) {
      expiry.wrong.push_back(seq);
      continue;
    }
    const auto partial = next_indexes_.find(seq);
    const std::int64_t delivered = partial == next_indexes_.end() ? 0 : partial->second;
    const AppId app = rows.integer(1);
    expiry.moves.add(app, account::kQueued, reason::kNone, delivered - rows.integer(2));
    expiry.moves.add(app, account::kExpired, reason::kAge, rows.integer(2) - delivered);
    expiry.moves.add(app, account::kQueuedBytes, reason::kNone, -rows.integer(3));
    bytes += rows.integer(3);
    expiry.rows.push_back({seq,
                           {static_cast<std::uint32_t>(rows.integer(6)),
                            app,
                            static_cast<event::Class>(rows.integer(7))},
                           static_cast<std::uint64_t>(rows.integer(3))});
  }
  expiry.next_boot_ms = now;
  return expiry;
}

Result<void> SqliteStore::expire_rows(BootMs now) {
  TELEMETRYD_ASSIGN(const Expiry expiry, rows_too_old(now));
  if (!expiry.rows.empty()) {
    const auto written = transact([&]() -> Result<void> {
      for (const Gone& row : expiry.rows) TELEMETRYD_TRY(delete_row(row.seq));
      return books_.write(expiry.moves);
    });
    TELEMETRYD_TRY(written);
    books_.apply(expiry.moves);
    for (const Gone& row : expiry.rows) {
      next_indexes_.erase(row.seq);
      leave_share(row.seq, row.owner, row.bytes);
    }
    expired_rows_ += expiry.rows.size();
  }
  TELEMETRYD_TRY(remove_wrong(expiry.wrong));
  expire_boot_ms_ = expiry.next_boot_ms;
  // The ledger has the count; the log says it once all are gone.
  if (expired_rows_ > 0 && expire_boot_ms_ > now) {
    log::warn("events_expired", {{"rows", std::exchange(expired_rows_, 0)}});
  }
  return {};
}

// Rides along with other work, so an error is not that work's: it is tried again later.
void SqliteStore::expire_due() {
  const BootMs now = clock_.boot_ms();
  if (auto removed = remove_wrong(std::exchange(wrong_rows_, {})); !removed) {
    log::warn("damaged_rows_stay", {{"cause", removed.error().message()}});
  }
  if (auto counted = recount(); !counted) {
    log::warn("bytes_not_counted", {{"cause", counted.error().message()}});
  }
  if (options_.event_age_max.count() == 0 || now < expire_boot_ms_) return;
  if (auto done = expire_rows(now); !done) {
    expire_boot_ms_ = now + kExpireRetryMs;
    log::warn("expiry_delayed", {{"cause", done.error().message()}});
  }
}

}  // namespace telemetryd::store
