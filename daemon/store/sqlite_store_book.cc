#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"
#include "store/damaged_row.h"
#include "store/row_bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

// Of `clients_max`: how many instances may come between two counts, and how many go at a time.
constexpr std::uint32_t kClientsShare = 16;

}  // namespace

// In the caller's transaction: the tables take over what the rows up to `up_to` say.
Result<void> SqliteStore::book(Seq up_to) {
  for (const auto& [key, high_water] : unbooked_.high_waters()) {
    TELEMETRYD_TRY(put_client(key, high_water));
  }
  TELEMETRYD_TRY(books_.write(unbooked_.moves()));
  return sql_.put_booked.run(up_to);
}

Result<void> SqliteStore::book_now() {
  if (unbooked_.empty() && !uptime_.unsaved(clock_.boot_ms())) return {};
  return transact([]() -> Result<void> { return {}; });
}

Result<void> SqliteStore::put_client(const ClientKey& key, std::uint64_t high_water) {
  TELEMETRYD_TRY(sql_.put_client.run(
      key.uid, Blob{as_text(key.instance)}, high_water, clock_.unix_ms(), epoch_));
  if (++clients_put_ < std::max(1u, options_.clients_max / kClientsShare)) return {};
  clients_put_ = 0;
  return forget_oldest_clients();
}

// Senders that never say goodbye would fill the store in the end. The user with the most instances
// pays, so nobody can push out another's; where many have few, the ones seen longest ago go. A
// sender that is forgotten while it is connected is told OUT_OF_ORDER and goes on where its next
// HELLO says.
Result<void> SqliteStore::forget_oldest_clients() {
  TELEMETRYD_ASSIGN(const std::int64_t known, db_.ask_integer("SELECT count(*) FROM clients"));
  if (known <= options_.clients_max) return {};
  TELEMETRYD_ASSIGN(const std::int64_t uid,
                    db_.ask_integer("SELECT uid FROM clients GROUP BY uid "
                                    "ORDER BY count(*) DESC LIMIT 1"));
  TELEMETRYD_ASSIGN(Statement forget,
                    db_.prepare("DELETE FROM clients WHERE uid=?1 AND instance IN (SELECT instance "
                                "FROM clients WHERE uid=?1 ORDER BY seen_unix_ms LIMIT ?2)"));
  const std::int64_t surplus = known - options_.clients_max + options_.clients_max / kClientsShare;
  log::info("instances_forgotten", {{"uid", uid}, {"count", surplus}});
  TELEMETRYD_TRY(forget.run(uid, surplus));
  TELEMETRYD_ASSIGN(const std::int64_t left, db_.ask_integer("SELECT count(*) FROM clients"));
  if (left <= options_.clients_max) return {};
  TELEMETRYD_ASSIGN(
      Statement forget_any,
      db_.prepare("DELETE FROM clients WHERE (uid, instance) IN (SELECT uid, instance "
                  "FROM clients ORDER BY seen_unix_ms LIMIT ?)"));
  log::info("oldest_instances_forgotten", {{"count", left - options_.clients_max}});
  return forget_any.run(left - options_.clients_max);
}

// Rows that a crash left unbooked. Nothing has touched them since: whatever removes or delivers a
// row books it first, in the same transaction. Their blobs stay unread, which may be 64 MiB.
Result<UnbookedDamage> SqliteStore::load_unbooked() {
  UnbookedDamage damage;
  TELEMETRYD_ASSIGN(const std::int64_t booked,
                    db_.ask_integer("SELECT value FROM meta WHERE key='booked_up_to'"));
  TELEMETRYD_ASSIGN(Statement select,
                    db_.prepare("SELECT uid, app, count, instance, last_frame, crc, length(blob), "
                                "seq FROM events WHERE seq>? ORDER BY seq"));
  for (Rows rows = select.query(booked);;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) break;
    const RowColumns columns{.uid = static_cast<std::uint32_t>(rows.integer(0)),
                             .app = rows.integer(1),
                             .count = rows.integer(2),
                             .instance = rows.bytes(3),
                             .last_frame = static_cast<std::uint64_t>(rows.integer(4))};
    ClientKey client{.uid = columns.uid};
    if (columns.instance.size() != client.instance.size() ||
        !columns_match(rows.integer(5), columns) || books_.name(columns.app).empty()) {
      TELEMETRYD_TRY(note_damage(static_cast<Seq>(rows.integer(7)), damage));
      continue;
    }
    std::ranges::copy(as_bytes(columns.instance), client.instance.begin());
    unbooked_.add(client, columns.last_frame, columns.app, columns.count, rows.integer(6));
  }
  books_.apply(unbooked_.moves());
  books_.apply(damage.new_apps);
  books_.apply(damage.moves);
  return damage;
}

// No table has heard of the row, so it is accepted and lost at once: its events as far as the blob
// tells their number, for the app that the row names if there is one. Its client's high water stays
// where the other rows have it; a sender that is further on says so in its HELLO.
Result<void> SqliteStore::note_damage(Seq seq, UnbookedDamage& damage) {
  TELEMETRYD_ASSIGN(const auto row, load_row(seq));
  if (!row) return fail(ErrorCode::kDataLoss, "a row went while it was read");
  const std::int64_t events = count_events(row->blob).value_or(0);
  log_damaged(*row, events);
  AppId app = row->app;
  if (books_.name(app).empty()) app = books_.find_or_add_other(damage.new_apps);
  damage.moves.add(app, account::kAccepted, reason::kNone, events);
  damage.moves.add(app, account::kLost, reason::kDamage, events);
  damage.rows.push_back(seq);
  return {};
}

// In the caller's transaction, which books the rows that are whole.
Result<void> SqliteStore::remove_unbooked(const UnbookedDamage& damage) {
  for (const Seq seq : damage.rows) TELEMETRYD_TRY(delete_row(seq));
  TELEMETRYD_TRY(books_.write(damage.new_apps));
  return books_.write(damage.moves);
}

}  // namespace telemetryd::store
