#include <algorithm>

#include "base/bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {

// In the caller's transaction: the tables take over what the rows up to `up_to` say.
Result<void> SqliteStore::book(Seq up_to) {
  for (const auto& [key, high_water] : unbooked_.high_waters()) {
    TELEMETRYD_TRY(put_client(key, high_water));
  }
  TELEMETRYD_TRY(books_.write(unbooked_.moves()));
  return sql_.put_booked.run(up_to);
}

Result<void> SqliteStore::book_now() {
  if (unbooked_.empty()) return {};
  return transact([]() -> Result<void> { return {}; });
}

Result<void> SqliteStore::put_client(const ClientKey& key, std::uint64_t high_water) {
  return sql_.put_client.run(
      key.uid, Blob{as_text(key.instance)}, high_water, clock_.unix_ms(), epoch_);
}

// Rows that a crash left unbooked. Nothing has touched them since: whatever removes or delivers a
// row books it first, in the same transaction.
Result<void> SqliteStore::load_unbooked() {
  TELEMETRYD_ASSIGN(const std::int64_t booked,
                    db_.ask_integer("SELECT value FROM meta WHERE key='booked_up_to'"));
  TELEMETRYD_ASSIGN(Statement select,
                    db_.prepare("SELECT uid, app, count, length(blob), instance, last_frame "
                                "FROM events WHERE seq>? ORDER BY seq"));
  for (Rows rows = select.query(booked);;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) break;
    ClientKey client{.uid = static_cast<std::uint32_t>(rows.integer(0))};
    const std::string_view instance = rows.bytes(4);
    if (instance.size() != client.instance.size() || books_.name(rows.integer(1)).empty()) {
      return fail(ErrorCode::kDataLoss, "a row names no client, or an app that is not there");
    }
    std::ranges::copy(as_bytes(instance), client.instance.begin());
    unbooked_.add(client,
                  static_cast<std::uint64_t>(rows.integer(5)),
                  rows.integer(1),
                  rows.integer(2),
                  rows.integer(3));
  }
  books_.apply(unbooked_.moves());
  return {};
}

}  // namespace telemetryd::store
