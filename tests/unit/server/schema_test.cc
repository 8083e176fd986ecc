// A database of an older version becomes one of this version and keeps what it holds.

#include "server/schema.h"

#include <gtest/gtest.h>

#include "server/credentials.h"
#include "server/event_query.h"
#include "server/registry.h"
#include "server/storage.h"
#include "support/temp_dir.h"
#include "unit/server/support.h"

namespace telemetryd::server {
namespace {

// The file as version 1 made it, in its own words.
constexpr const char* kVersion1 = R"sql(
PRAGMA page_size=8192;
PRAGMA journal_mode=WAL;
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE organizations (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT;
CREATE TABLE applications (
  id INTEGER PRIMARY KEY, organization INTEGER NOT NULL REFERENCES organizations(id),
  name TEXT NOT NULL, created INTEGER NOT NULL, UNIQUE (organization, name)) STRICT;
CREATE TABLE tokens (
  id INTEGER PRIMARY KEY, application INTEGER NOT NULL REFERENCES applications(id),
  token_sha256 BLOB NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
  sealed_secret BLOB NOT NULL, created INTEGER NOT NULL, expires INTEGER, revoked INTEGER,
  last_used INTEGER) STRICT;
CREATE TABLE events (
  id INTEGER PRIMARY KEY, application INTEGER NOT NULL,
  event_id BLOB NOT NULL CHECK (length(event_id) = 16), machine_id TEXT NOT NULL,
  app TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, time_unix_nano INTEGER NOT NULL,
  received_unix_ms INTEGER NOT NULL, batch INTEGER NOT NULL, payload BLOB NOT NULL,
  context BLOB NOT NULL, UNIQUE (application, event_id)) STRICT;
CREATE TABLE counters (
  application INTEGER PRIMARY KEY REFERENCES applications(id),
  accepted INTEGER NOT NULL DEFAULT 0, duplicates INTEGER NOT NULL DEFAULT 0,
  rejected INTEGER NOT NULL DEFAULT 0, batches INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE nonces (
  token INTEGER NOT NULL, nonce BLOB NOT NULL CHECK (length(nonce) = 16),
  expires_unix_s INTEGER NOT NULL, PRIMARY KEY (expires_unix_s, token, nonce)) STRICT, WITHOUT ROWID;
INSERT INTO organizations VALUES (1, 'acme', 1000);
INSERT INTO applications VALUES (1, 1, 'tools', 1000);
INSERT INTO counters VALUES (1, 1, 2, 3, 4);
PRAGMA application_id=1953262963;
PRAGMA user_version=1;
)sql";

class OldDatabase : public testing::Test {
 protected:
  OldDatabase() {
    auto database = Database::open(path(), Database::Mode::kCreate).value();
    database.execute(kVersion1).value();
    const auto sealer = Sealer::open_or_create(path()).value();
    const Digest digest = sha256("tk_old");
    auto token = database
                     .prepare(
                         "INSERT INTO tokens (application, token_sha256, sealed_secret, "
                         "created) VALUES (1, ?1, ?2, 1000)")
                     .value();
    const std::string sealed = sealer.seal("old secret", digest);
    token.bind_blob(1, as_text(digest)).bind_blob(2, sealed).run().value();
    const test::v1::NativeBatch batch = test::make_batch(1, 1);
    const std::string payload = batch.groups(0).events(0).SerializeAsString();
    auto event =
        database
            .prepare(
                "INSERT INTO events (application, event_id, machine_id, app, name, kind, "
                "time_unix_nano, received_unix_ms, batch, payload, context) VALUES (1, ?1, "
                "'m', 'mytool', 'build.finished', 0, 1, 1000, 1, ?2, x'')")
            .value();
    const std::string id = test::event_id(1);
    event.bind_blob(1, id).bind_blob(2, payload).run().value();
  }

  std::filesystem::path path() const { return dir_ / "db"; }

  const test::TempDir dir_;
  test::SharedClock clock_;
};

TEST_F(OldDatabase, IsRefusedForReadingUntilItIsMigrated) {
  const auto opened = open_storage(path(), StorageMode::kRead);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message().find("telemetry-server migrate"), std::string::npos);
}

TEST_F(OldDatabase, KeepsItsEventsTokensAndLedger) {
  auto storage = open_storage(path(), StorageMode::kCreate).value();
  EXPECT_EQ(storage.database.query_int("PRAGMA user_version"), kSchemaVersion);

  const LedgerRow row = read_ledger(storage.database, {}).value().at(0);
  EXPECT_EQ(row.rows, 1);
  EXPECT_TRUE(row.balances());
  EXPECT_EQ(row.duplicates, 2);
  EXPECT_EQ(row.rejected, 3);
  EXPECT_EQ(row.batches, 4);
  EXPECT_EQ(row.dnt_requests, 0);
  EXPECT_EQ(row.id_conflict, 0);

  std::vector<nlohmann::json> events;
  const auto visit = [&events](const nlohmann::json& event) { events.push_back(event); };
  ASSERT_TRUE(for_each_event(storage.database, {}, 10, visit));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].at("name"), "build.finished");

  const auto tokens = Registry(storage.database, clock_).tokens().value();
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_EQ(tokens[0].tier, Tier::kEnterprise);
  const auto credentials =
      SqliteCredentials::open(path(), Sealer::open(path()).value(), clock_).value();
  EXPECT_EQ(credentials->find(sha256("tk_old")).value()->secret.text(), "old secret");
}

TEST_F(OldDatabase, CanMuteItsApplications) {
  auto storage = open_storage(path(), StorageMode::kCreate).value();
  const UnixMs now = clock_.unix_ms();
  ASSERT_TRUE(Mutes(storage.database).mute(1, "mytool", std::chrono::hours(1), now));
  const auto credentials =
      SqliteCredentials::open(path(), Sealer::open(path()).value(), clock_).value();
  const auto credential = credentials->find(sha256("tk_old")).value();
  ASSERT_EQ(credential->mutes.size(), 1u);
  EXPECT_EQ(credential->mutes[0].client_app, "mytool");
}

TEST_F(OldDatabase, HoldsOnlyTheTiersThatThereAre) {
  auto storage = open_storage(path(), StorageMode::kCreate).value();
  EXPECT_FALSE(storage.database.execute("UPDATE tokens SET tier = 'gold'"));
  EXPECT_TRUE(storage.database.execute("UPDATE tokens SET tier = 'pro'"));
  EXPECT_EQ(Registry(storage.database, clock_).tokens().value().at(0).tier, Tier::kPro);
}

}  // namespace
}  // namespace telemetryd::server
