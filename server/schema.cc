#include "server/schema.h"

#include <array>
#include <string>

namespace telemetryd::server {
namespace {

// Times are milliseconds since the epoch unless the name says otherwise. The ledger of an
// application is its row in counters: accepted is the number of its rows in events, always, because
// both move in one transaction.
constexpr const char* kVersion1 = R"sql(
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE organizations (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created INTEGER NOT NULL
) STRICT;

CREATE TABLE applications (
  id INTEGER PRIMARY KEY,
  organization INTEGER NOT NULL REFERENCES organizations(id),
  name TEXT NOT NULL,
  created INTEGER NOT NULL,
  UNIQUE (organization, name)
) STRICT;

CREATE TABLE tokens (
  id INTEGER PRIMARY KEY,
  application INTEGER NOT NULL REFERENCES applications(id),
  token_sha256 BLOB NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
  sealed_secret BLOB NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER,
  revoked INTEGER,
  last_used INTEGER
) STRICT;

CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  application INTEGER NOT NULL,
  event_id BLOB NOT NULL CHECK (length(event_id) = 16),
  machine_id TEXT NOT NULL,
  app TEXT NOT NULL,
  name TEXT NOT NULL,
  kind INTEGER NOT NULL,
  time_unix_nano INTEGER NOT NULL,
  received_unix_ms INTEGER NOT NULL,
  batch INTEGER NOT NULL,
  payload BLOB NOT NULL,
  context BLOB NOT NULL,
  UNIQUE (application, event_id)
) STRICT;

CREATE TABLE counters (
  application INTEGER PRIMARY KEY REFERENCES applications(id),
  accepted INTEGER NOT NULL DEFAULT 0,
  duplicates INTEGER NOT NULL DEFAULT 0,
  rejected INTEGER NOT NULL DEFAULT 0,
  batches INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE nonces (
  token INTEGER NOT NULL,
  nonce BLOB NOT NULL CHECK (length(nonce) = 16),
  expires_unix_s INTEGER NOT NULL,
  PRIMARY KEY (expires_unix_s, token, nonce)
) STRICT, WITHOUT ROWID;
)sql";

// events.format says what payload is, see EventFormat. A signature of telemetry-kit's plain form is
// remembered in nonces by its first 16 bytes: it does there what a nonce does.
constexpr const char* kVersion2 = R"sql(
ALTER TABLE tokens ADD COLUMN tier TEXT NOT NULL DEFAULT 'enterprise'
  CHECK (tier IN ('free', 'pro', 'business', 'enterprise'));
ALTER TABLE events ADD COLUMN format INTEGER NOT NULL DEFAULT 0 CHECK (format IN (0, 1));
ALTER TABLE counters ADD COLUMN dnt_requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN dnt_events INTEGER NOT NULL DEFAULT 0;
)sql";

// Events whose ID was here with other content; they are not among the duplicates.
constexpr const char* kVersion3 = R"sql(
ALTER TABLE counters ADD COLUMN id_conflict INTEGER NOT NULL DEFAULT 0;
)sql";

// What an administrator wants no events of until then; see mutes.h.
constexpr const char* kVersion4 = R"sql(
CREATE TABLE mutes (
  application INTEGER NOT NULL REFERENCES applications(id),
  client_app TEXT NOT NULL,
  until INTEGER NOT NULL,
  ended INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1)),
  PRIMARY KEY (application, client_app)
) STRICT, WITHOUT ROWID;
)sql";

constexpr std::array kMigrations = {kVersion1, kVersion2, kVersion3, kVersion4};
static_assert(kMigrations.size() == static_cast<std::size_t>(kSchemaVersion));

Result<std::int64_t> read_version(Database& database) {
  TELEMETRYD_ASSIGN(const std::int64_t id, database.query_int("PRAGMA application_id"));
  TELEMETRYD_ASSIGN(const std::int64_t version, database.query_int("PRAGMA user_version"));
  if (id == 0 && version == 0) {
    TELEMETRYD_ASSIGN(const std::int64_t tables,
                      database.query_int("SELECT count(*) FROM sqlite_schema"));
    if (tables == 0) return 0;
  }
  if (id != kApplicationId) {
    return fail(ErrorCode::kFailedPrecondition,
                "this SQLite file belongs to another program; give telemetry-server a file of "
                "its own");
  }
  if (version > kSchemaVersion) {
    return fail(ErrorCode::kFailedPrecondition,
                "the database has schema version " + std::to_string(version) +
                    ", this telemetry-server knows up to " + std::to_string(kSchemaVersion) +
                    "; install the newer telemetry-server again, or restore a backup");
  }
  return version;
}

Result<void> apply(Database& database, std::int64_t version) {
  TELEMETRYD_ASSIGN(Transaction transaction, Transaction::begin(database));
  // Somebody else may have migrated while this one waited for the lock.
  TELEMETRYD_ASSIGN(const std::int64_t current, read_version(database));
  if (current >= version) return {};
  const auto index = static_cast<std::size_t>(version - 1);
  TELEMETRYD_TRY(database.execute(kMigrations[index]));
  TELEMETRYD_TRY(database.execute("PRAGMA application_id=" + std::to_string(kApplicationId) +
                                  "; PRAGMA user_version=" + std::to_string(version)));
  return transaction.commit();
}

}  // namespace

Result<std::int64_t> migrate(Database& database) {
  TELEMETRYD_ASSIGN(const std::int64_t found, read_version(database));
  if (found == 0) {
    // Page size counts only before the first page; WAL stays with the file.
    TELEMETRYD_TRY(database.execute("PRAGMA page_size=8192; PRAGMA journal_mode=WAL"));
  }
  for (std::int64_t version = found + 1; version <= kSchemaVersion; ++version) {
    if (auto applied = apply(database, version); !applied) {
      return fail(
          applied.error().with_context("migration to schema version " + std::to_string(version)));
    }
  }
  TELEMETRYD_TRY(check_schema(database));
  return found;
}

Result<void> check_schema(Database& database) {
  TELEMETRYD_ASSIGN(const std::int64_t version, read_version(database));
  if (version == kSchemaVersion) return {};
  return fail(ErrorCode::kFailedPrecondition,
              "the database has schema version " + std::to_string(version) + ", needed is " +
                  std::to_string(kSchemaVersion) + "; run `telemetry-server migrate`");
}

}  // namespace telemetryd::server
