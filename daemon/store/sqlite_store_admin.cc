#include <algorithm>
#include <charconv>

#include "store/row_bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

constexpr std::uint32_t kListLimitMax = 10'000;
constexpr std::int64_t kConsentsPerUidMax = 512;

constexpr std::pair<Consent, std::string_view> kConsentWords[] = {
    {Consent::kUnset, "unset"},
    {Consent::kEnabled, "enabled"},
    {Consent::kLocal, "local"},
    {Consent::kDisabled, "disabled"},
};

std::string_view consent_word(Consent state) {
  for (const auto& [value, word] : kConsentWords) {
    if (value == state) return word;
  }
  return "unset";
}

// An unknown word is read as the strictest.
Consent consent_state(std::string_view text) {
  for (const auto& [value, word] : kConsentWords) {
    if (word == text) return value;
  }
  return Consent::kDisabled;
}

using Losses = std::map<std::string, std::uint64_t>;

// "reason=value" lines.
std::string encode_losses(const Losses& losses) {
  std::string text;
  for (const auto& [why, count] : losses) text += why + "=" + std::to_string(count) + "\n";
  return text;
}

Losses decode_losses(std::string_view text) {
  Losses losses;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t equals = line.find('=');
    std::uint64_t count = 0;
    if (equals == std::string_view::npos) continue;
    std::from_chars(line.data() + equals + 1, line.data() + line.size(), count);
    losses[std::string(line.substr(0, equals))] = count;
  }
  return losses;
}

}  // namespace

Result<void> SqliteStore::forget(const ClientKey& client) {
  const auto written =
      transact([&] { return sql_.drop_client.run(client.uid, Blob{as_text(client.instance)}); });
  TELEMETRYD_TRY(written);
  clients_.drop(client);
  return {};
}

Result<void> SqliteStore::report(const ClientInfo& client,
                                 const std::map<std::string, std::uint64_t>& losses_by_reason) {
  TELEMETRYD_TRY(usable());
  Losses last;
  {
    Rows rows = sql_.find_client.query(client.key.uid, Blob{as_text(client.key.instance)});
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (found) last = decode_losses(rows.bytes(1));
  }
  NewApps new_apps;
  const auto app = books_.find_or_add(client.app, client.key.uid, new_apps);
  if (!app) return fail(ErrorCode::kResourceExhausted, "there are too many apps");
  Moves moves;
  Losses now = last;
  for (const auto& [why, count] : losses_by_reason) {
    std::uint64_t& known = now[why];
    if (count <= known) continue;
    moves.add(*app, account::kLostByClient, why, static_cast<std::int64_t>(count - known));
    known = count;
  }
  if (moves.empty()) return {};
  const std::uint64_t first = std::max<std::uint64_t>(client.first_frame, 1);
  const std::string reported = encode_losses(now);
  TELEMETRYD_ASSIGN(Statement put,
                    db_.prepare("INSERT INTO clients(uid, instance, high_water, reported, "
                                "seen_unix_ms, seen_epoch) VALUES(?,?,?,?,?,?) "
                                "ON CONFLICT DO UPDATE SET reported=excluded.reported, "
                                "seen_unix_ms=excluded.seen_unix_ms, "
                                "seen_epoch=excluded.seen_epoch"));
  const auto written = transact([&]() -> Result<void> {
    TELEMETRYD_TRY(books_.write(new_apps));
    TELEMETRYD_TRY(put.run(client.key.uid,
                           Blob{as_text(client.key.instance)},
                           first - 1,
                           Blob{reported},
                           clock_.unix_ms(),
                           epoch_));
    return books_.write(moves);
  });
  TELEMETRYD_TRY(written);
  books_.apply(new_apps);
  books_.apply(moves);
  return {};
}

Result<Ledger> SqliteStore::ledger() {
  TELEMETRYD_TRY(usable());
  Ledger ledger;
  for (const auto& [app, accounts] : books_.all()) ledger[books_.name(app)] = accounts;
  return ledger;
}

std::vector<std::string> SqliteStore::apps() {
  std::vector<std::string> names;
  for (const auto& [name, app] : books_.apps()) {
    if (name != kOtherApp) names.push_back(name);
  }
  return names;
}

Result<QueueInfo> SqliteStore::queue(const std::string& app) {
  TELEMETRYD_TRY(usable());
  QueueInfo info;
  const auto id = books_.find(app);
  if (!id) return info;
  const Accounts& accounts = books_.accounts(*id);
  info.events = static_cast<std::uint64_t>(accounts.get(account::kQueued));
  info.bytes = static_cast<std::uint64_t>(accounts.get(account::kQueuedBytes));
  if (info.events == 0) return info;
  Cursor& cursor = cursors_[*id];
  Rows rows = sql_.scan_rows.query(cursor.oldest_from);
  for (;;) {
    // Without the oldest, when the disk does not give it back.
    const auto found = rows.next();
    if (!found || !*found) return info;
    if (rows.integer(2) != *id) continue;
    cursor.oldest_from = static_cast<Seq>(rows.integer(0));
    info.oldest_unix_ms = rows.integer(6);
    return info;
  }
}

Result<void> SqliteStore::list_row(StoredRow row,
                                   const EventQuery& query,
                                   std::vector<ListedEvent>& events) {
  const RowMeta meta{row.seq,
                     row.uid,
                     books_.name(row.app),
                     row.persistence_class,
                     row.urgency,
                     row.accepted_unix_ms,
                     row.accepted_boot_ms,
                     row.count};
  const char* const state = leased_.contains(row.seq) ? "leased" : "queued";
  std::string_view rest = row.blob;
  for (std::uint32_t index = 0; index < row.count && events.size() < query.limit; ++index) {
    const auto event = take_event(rest);
    if (!event) return fail(ErrorCode::kDataLoss, "a row's events cannot be told apart");
    const bool seen = row.seq == query.after_seq && index <= query.after_index;
    if (seen || index < row.next_index) continue;
    events.push_back({meta, index, state, row.context, std::string(event_body(*event))});
  }
  return {};
}

Result<std::vector<ListedEvent>> SqliteStore::list(const EventQuery& wanted) {
  TELEMETRYD_TRY(usable());
  EventQuery query = wanted;
  query.limit = std::min(query.limit, kListLimitMax);
  std::vector<ListedEvent> events;
  std::vector<StoredRow> damaged;
  {
    Rows rows = sql_.scan_rows.query(query.after_seq);
    while (events.size() < query.limit) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      if (query.uid && rows.integer(1) != *query.uid) continue;
      if (!query.app.empty() && books_.name(rows.integer(2)) != query.app) continue;
      TELEMETRYD_ASSIGN(auto row, load_row(static_cast<Seq>(rows.integer(0))));
      if (!row) continue;
      if (row->damaged) {
        damaged.push_back(std::move(*row));
      } else {
        TELEMETRYD_TRY(list_row(std::move(*row), query, events));
      }
    }
  }
  for (const StoredRow& row : damaged) {
    // A leased row's damage is dealt with when its lease has ended.
    if (!leased_.contains(row.seq)) TELEMETRYD_TRY(remove_damaged({std::move(row)}));
  }
  return events;
}

Result<std::map<std::string, std::string>> SqliteStore::destination_states() {
  TELEMETRYD_TRY(usable());
  std::map<std::string, std::string> states;
  TELEMETRYD_ASSIGN(Statement select, db_.prepare("SELECT name, state FROM destinations"));
  for (Rows rows = select.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) return states;
    states[rows.text(0)] = rows.text(1);
  }
}

Result<void> SqliteStore::save_destination_state(const std::string& name,
                                                 const std::string& state) {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_ASSIGN(Statement put,
                    db_.prepare("INSERT OR REPLACE INTO destinations(name, state) VALUES(?,?)"));
  return transact([&] { return put.run(std::string_view(name), Blob{state}); });
}

Result<std::vector<ConsentRecord>> SqliteStore::consents() {
  TELEMETRYD_TRY(usable());
  std::vector<ConsentRecord> records;
  TELEMETRYD_ASSIGN(
      Statement select,
      db_.prepare("SELECT uid, app, state, decided_unix_ms FROM consent ORDER BY uid, app"));
  for (Rows rows = select.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) return records;
    records.push_back({static_cast<std::uint32_t>(rows.integer(0)),
                       rows.text(1),
                       consent_state(rows.text(2)),
                       rows.integer(3)});
  }
}

Result<void> SqliteStore::set_consent(const ConsentRecord& record) {
  TELEMETRYD_TRY(usable());
  const std::string_view app = record.app;
  if (record.state == Consent::kUnset) {
    TELEMETRYD_ASSIGN(Statement drop, db_.prepare("DELETE FROM consent WHERE uid=? AND app=?"));
    return transact([&] { return drop.run(record.uid, app); });
  }
  TELEMETRYD_ASSIGN(Statement others,
                    db_.prepare("SELECT count(*) FROM consent WHERE uid=? AND app<>?"));
  {
    Rows rows = others.query(record.uid, app);
    TELEMETRYD_ASSIGN([[maybe_unused]] const bool found, rows.next());
    // The record that speaks of all tools always has a place.
    if (!app.empty() && rows.integer(0) >= kConsentsPerUidMax) {
      return fail(ErrorCode::kResourceExhausted,
                  "this user has decided about " + std::to_string(kConsentsPerUidMax) +
                      " apps; reset one of them, or decide for all tools");
    }
  }
  TELEMETRYD_ASSIGN(Statement put,
                    db_.prepare("INSERT OR REPLACE INTO consent(uid, app, state, decided_unix_ms) "
                                "VALUES(?,?,?,?)"));
  std::optional<Erasure> erasure;
  if (record.state == Consent::kDisabled) erasure = new_erasure(record.uid, record.app);
  const auto written = transact([&]() -> Result<void> {
    TELEMETRYD_TRY(put.run(record.uid, app, consent_word(record.state), record.decided_unix_ms));
    return erasure ? note_erasure(*erasure) : Result<void>();
  });
  TELEMETRYD_TRY(written);
  if (erasure) erase_withdrawn(*erasure);
  return {};
}

Result<std::optional<std::string>> SqliteStore::identity(const std::string& key) {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_ASSIGN(Statement select, db_.prepare("SELECT value FROM identity WHERE key=?"));
  Rows rows = select.query(std::string_view(key));
  TELEMETRYD_ASSIGN(const bool found, rows.next());
  if (!found) return std::optional<std::string>();
  return std::optional(rows.text(0));
}

Result<void> SqliteStore::set_identity(const std::string& key, const std::string& value) {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_ASSIGN(Statement put,
                    db_.prepare("INSERT OR REPLACE INTO identity(key, value) VALUES(?,?)"));
  return transact([&] { return put.run(std::string_view(key), std::string_view(value)); });
}

}  // namespace telemetryd::store
