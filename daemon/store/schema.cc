#include "store/schema.h"

#include <array>
#include <string>

#include "base/bytes.h"

namespace telemetryd::store {
namespace {

// The partial index is there for eviction, which asks for the oldest row of a class. Rows of the
// normal class are not in it, so that the usual insert does not pay for it.
constexpr const char* kTables = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE epochs(number INTEGER PRIMARY KEY, random BLOB, started_unix_ms INTEGER, boot_id TEXT);
CREATE TABLE apps(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, uid INTEGER NOT NULL);
CREATE TABLE events(seq INTEGER PRIMARY KEY, uid INTEGER, app INTEGER, class INTEGER,
  urgency INTEGER, epoch INTEGER, accepted_boot_ms INTEGER, accepted_unix_ms INTEGER,
  id_ms_min INTEGER, id_ms_max INTEGER, count INTEGER, crc INTEGER, instance BLOB,
  last_frame INTEGER, context BLOB, blob BLOB);
CREATE INDEX events_by_class ON events(class, seq) WHERE class <> 0;
CREATE TABLE delivery(seq INTEGER PRIMARY KEY, next_index INTEGER NOT NULL);
CREATE TABLE dead(id INTEGER PRIMARY KEY, seq INTEGER, event_index INTEGER, uid INTEGER,
  app INTEGER, destination TEXT, parked_unix_ms INTEGER, reason TEXT, context BLOB, blob BLOB);
CREATE TABLE clients(uid INTEGER, instance BLOB, high_water INTEGER, reported BLOB,
  seen_unix_ms INTEGER, seen_epoch INTEGER, PRIMARY KEY(uid, instance)) WITHOUT ROWID;
CREATE TABLE ledger(app INTEGER, account TEXT, reason TEXT, value INTEGER,
  PRIMARY KEY(app, account, reason)) WITHOUT ROWID;
CREATE TABLE destinations(name TEXT PRIMARY KEY, state BLOB) WITHOUT ROWID;
CREATE TABLE consent(uid INTEGER, app TEXT, state TEXT, decided_unix_ms INTEGER,
  PRIMARY KEY(uid, app)) WITHOUT ROWID;
CREATE TABLE identity(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
)sql";

// Every column that the store reads or writes.
constexpr std::array kReads = {
    "SELECT key, value FROM meta",
    "SELECT number, random, started_unix_ms, boot_id FROM epochs",
    "SELECT id, name, uid FROM apps",
    "SELECT seq, uid, app, class, urgency, epoch, accepted_boot_ms, accepted_unix_ms, id_ms_min, "
    "id_ms_max, count, crc, instance, last_frame, context, blob FROM events",
    "SELECT seq FROM events INDEXED BY events_by_class WHERE class <> 0 AND class = 1",
    "SELECT seq, next_index FROM delivery",
    "SELECT id, seq, event_index, uid, app, destination, parked_unix_ms, reason, context, blob "
    "FROM dead",
    "SELECT uid, instance, high_water, reported, seen_unix_ms, seen_epoch FROM clients",
    "SELECT app, account, reason, value FROM ledger",
    "SELECT name, state FROM destinations",
    "SELECT uid, app, state, decided_unix_ms FROM consent",
    "SELECT key, value FROM identity",
};

Result<void> mark_version(Database& db) {
  const std::string version = "PRAGMA user_version=" + std::to_string(kUserVersion);
  return db.exec(version.c_str());
}

Result<void> fill_schema(Database& db, const Clock& clock) {
  TELEMETRYD_TRY(db.exec(kTables));
  TELEMETRYD_ASSIGN(Statement insert, db.prepare("INSERT INTO meta(key, value) VALUES(?, ?)"));
  const Bytes16 uuid = random_bytes16();
  TELEMETRYD_TRY(insert.run(std::string_view("store_uuid"), Blob{as_text(uuid)}));
  TELEMETRYD_TRY(insert.run(std::string_view("created_unix_ms"), clock.unix_ms()));
  return mark_version(db);
}

// Format 1 booked every row at once, so all that are there are booked.
Result<void> add_row_columns(Database& db) {
  TELEMETRYD_TRY(db.exec("ALTER TABLE events ADD COLUMN instance BLOB"));
  TELEMETRYD_TRY(db.exec("ALTER TABLE events ADD COLUMN last_frame INTEGER"));
  TELEMETRYD_TRY(db.exec(
      "INSERT OR REPLACE INTO meta SELECT 'booked_up_to', coalesce(max(seq), 0) FROM events"));
  return mark_version(db);
}

}  // namespace

Result<void> create_schema(Database& db, const Clock& clock) {
  TELEMETRYD_TRY(db.exec("BEGIN IMMEDIATE"));
  TELEMETRYD_TRY(fill_schema(db, clock));
  return db.exec("COMMIT");
}

Result<void> upgrade_schema(Database& db) {
  TELEMETRYD_TRY(db.exec("BEGIN IMMEDIATE"));
  TELEMETRYD_TRY(add_row_columns(db));
  return db.exec("COMMIT");
}

Result<void> check_schema(Database& db) {
  for (const char* const sql : kReads) {
    const auto prepared = db.prepare(sql);
    if (prepared) continue;
    const bool missing = prepared.error().code() == ErrorCode::kInternal;
    return fail(missing ? Error(ErrorCode::kDataLoss, prepared.error().message())
                        : prepared.error());
  }
  return {};
}

}  // namespace telemetryd::store
