#include <array>

#include "base/log.h"
#include "store/schema.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

// Lowest first. Normal rows are the only ones outside the index by class, and are walked in seq
// order instead.
constexpr std::array kEvictionOrder = {
    event::Class::kLow, event::Class::kNormal, event::Class::kCritical};

// Pages that B-trees and the free list may take beyond a row's own bytes.
constexpr std::int64_t kSparePages = 32;

constexpr BootMs kEvictionLogIntervalMs = 10'000;

}  // namespace

Result<bool> SqliteStore::at_page_limit(std::uint64_t bytes) {
  TELEMETRYD_ASSIGN(const std::int64_t pages, db_.ask_integer("PRAGMA page_count"));
  TELEMETRYD_ASSIGN(const std::int64_t unused, db_.ask_integer("PRAGMA freelist_count"));
  const std::int64_t room = static_cast<std::int64_t>(quota_.pages) - pages + unused;
  const auto needed = static_cast<std::int64_t>(bytes / (kPageBytes / 2));
  return room < needed + kSparePages;
}

Result<void> SqliteStore::evict(std::uint64_t bytes, Eviction& eviction) {
  for (const event::Class persistence_class : kEvictionOrder) {
    if (eviction.bytes >= bytes) return {};
    TELEMETRYD_TRY(evict_class(persistence_class, bytes, eviction));
  }
  return evict_dead(bytes, eviction);
}

// Dead letters wait for a person who may never come; they leave last, but they cannot be let fill
// the store.
Result<void> SqliteStore::evict_dead(std::uint64_t bytes, Eviction& eviction) {
  if (eviction.bytes >= bytes) return {};
  std::vector<std::int64_t> chosen;
  {
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
      chosen.push_back(rows.integer(0));
    }
  }
  TELEMETRYD_ASSIGN(Statement drop, db_.prepare("DELETE FROM dead WHERE id=?"));
  for (const std::int64_t id : chosen) TELEMETRYD_TRY(drop.run(id));
  eviction.dead_letters += chosen.size();
  return {};
}

Result<void> SqliteStore::evict_class(event::Class persistence_class,
                                      std::uint64_t bytes,
                                      Eviction& eviction) {
  Seq& from =
      eviction.from.try_emplace(persistence_class, evict_from_[persistence_class]).first->second;
  const bool normal = persistence_class == event::Class::kNormal;
  TELEMETRYD_ASSIGN(
      Statement select,
      db_.prepare(std::string("SELECT seq, app, count, length(blob) FROM events WHERE ") +
                  (normal ? "class=? AND seq>=? ORDER BY seq"
                          : "class<>0 AND class=? AND seq>=? ORDER BY seq")));
  std::vector<Seq> chosen;
  bool passed_leased = false;
  {
    Rows rows = select.query(static_cast<int>(persistence_class), from);
    while (eviction.bytes < bytes) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      const auto seq = static_cast<Seq>(rows.integer(0));
      if (leased_.contains(seq)) {
        passed_leased = true;
        continue;
      }
      if (!passed_leased) from = seq;
      const auto partial = next_indexes_.find(seq);
      const std::int64_t delivered = partial == next_indexes_.end() ? 0 : partial->second;
      const AppId app = rows.integer(1);
      eviction.moves.add(app, account::kQueued, reason::kNone, delivered - rows.integer(2));
      eviction.moves.add(app, account::kEvicted, reason::kQuota, rows.integer(2) - delivered);
      eviction.moves.add(app, account::kQueuedBytes, reason::kNone, -rows.integer(3));
      eviction.bytes += static_cast<std::uint64_t>(rows.integer(3)) + kRowOverheadBytes;
      chosen.push_back(seq);
    }
  }
  for (const Seq seq : chosen) {
    TELEMETRYD_TRY(delete_row(seq));
    eviction.rows.push_back(seq);
  }
  return {};
}

void SqliteStore::apply_eviction(const Eviction& eviction) {
  if (eviction.empty()) return;
  books_.apply(eviction.moves);
  for (const Seq seq : eviction.rows) next_indexes_.erase(seq);
  for (const auto& [persistence_class, from] : eviction.from) {
    evict_from_[persistence_class] = from;
  }
  evicted_rows_ += eviction.rows.size();
  evicted_dead_letters_ += eviction.dead_letters;
  if (eviction_logged_boot_ms_ &&
      clock_.boot_ms() - *eviction_logged_boot_ms_ < kEvictionLogIntervalMs) {
    return;
  }
  // At the quota every few commits evict; the ledger has the count, the log only says that it goes
  // on.
  eviction_logged_boot_ms_ = clock_.boot_ms();
  log::error("events_evicted",
             {{"rows", std::exchange(evicted_rows_, 0)},
              {"dead_letters", std::exchange(evicted_dead_letters_, 0)}});
}

}  // namespace telemetryd::store
