// How a store begins: made new, or brought from format 1 (written by SQL as that format was),
// whatever interrupts it; a newer one is left alone.

#include <fstream>
#include <unordered_set>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "store/row_bytes.h"
#include "support/recording_vfs.h"
#include "support/seed.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

namespace fs = std::filesystem;

constexpr int kRows = 40;
constexpr std::uint64_t kEpochBits = 40;

// What version 1 made of an empty folder, before it knew clients in rows.
constexpr const char* kFormat1 = R"sql(
PRAGMA page_size=8192; PRAGMA auto_vacuum=2; PRAGMA application_id=1414286660;
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE epochs(number INTEGER PRIMARY KEY, random BLOB, started_unix_ms INTEGER, boot_id TEXT);
CREATE TABLE apps(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, uid INTEGER NOT NULL);
CREATE TABLE events(seq INTEGER PRIMARY KEY, uid INTEGER, app INTEGER, class INTEGER,
  urgency INTEGER, epoch INTEGER, accepted_boot_ms INTEGER, accepted_unix_ms INTEGER,
  id_ms_min INTEGER, id_ms_max INTEGER, count INTEGER, crc INTEGER, context BLOB, blob BLOB);
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
INSERT INTO meta VALUES('store_uuid', randomblob(16)), ('created_unix_ms', 1700000000000);
INSERT INTO epochs VALUES(1, randomblob(16), 1700000000000, 'boot');
INSERT INTO apps VALUES(1, 'shop', 1000);
PRAGMA user_version=1; PRAGMA journal_mode=WAL;
)sql";

class Upgrade : public testing::Test {
 protected:
  void SetUp() override {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    std::int64_t bytes = 0;
    std::string all = kFormat1;
    for (int i = 0; i < kRows; ++i) {
      const std::string blob = batch_of({body(i)});
      bytes += static_cast<std::int64_t>(blob.size());
      all += "INSERT INTO events VALUES(" + std::to_string((std::int64_t{1} << kEpochBits) + i) +
             ",1000,1,0,0,1,1,1,0,0,1," + std::to_string(store::content_crc("context", blob)) +
             ",x'" + to_hex(as_bytes("context")) + "',x'" + to_hex(as_bytes(blob)) + "');";
    }
    const std::string count = std::to_string(kRows);
    all += "INSERT INTO ledger VALUES(1,'accepted',''," + count + "),(1,'queued',''," + count +
           "),(1,'queued_bytes',''," + std::to_string(bytes) + ");" +
           "INSERT INTO clients VALUES(1000,x'" + to_hex(client(1)->key.instance) + "'," + count +
           ",NULL,1700000000000,1)";
    ASSERT_EQ(sqlite3_exec(db, all.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
    for (const char* name : {"events.db-wal", "events.db-shm"}) fs::remove(dir_ / name);
  }

  static std::string body(int number) {
    return "event " + std::to_string(number) + std::string(700, 'x');
  }

  Result<std::unique_ptr<store::Store>> open(const fs::path& folder, const std::string& vfs = {}) {
    store::Options options = small_store(folder);
    options.vfs = vfs;
    return store::open_sqlite_store(options, clock_);
  }

  void expect_whole(const fs::path& folder) {
    auto store = open(folder);
    ASSERT_TRUE(store) << store.error().message();
    EXPECT_EQ((*store)->info()->loss, std::nullopt);
    EXPECT_EQ((*store)->info()->quarantined_stores, 0u);
    const auto check = (*store)->check_ledger();
    ASSERT_TRUE(check);
    for (const std::string& problem : check->problems) ADD_FAILURE() << problem;
    EXPECT_EQ((*store)->high_water(client(1)->key)->value_or(0), std::uint64_t{kRows});
    const std::vector<store::Append> group{frame(client(1), kRows + 1, {"next"})};
    const auto answers = (*store)->commit(group);
    ASSERT_TRUE(answers) << answers.error().message();
    EXPECT_EQ(answers->front().kind, store::Answer::Kind::kStored);
    const auto lease = (*store)->lease(lease_of({"shop"}));
    ASSERT_TRUE(lease);
    const std::vector<std::string> found = bodies_of(*lease);
    ASSERT_EQ(found.size(), std::size_t{kRows} + 1);
    for (int i = 0; i < kRows; ++i) EXPECT_EQ(found[static_cast<std::size_t>(i)], body(i));
  }

  TempDir dir_;
  FakeClock clock_;
};

TEST(Creation, APowerCutWhileAStoreIsMadeEndsInANewStoreOrInOneWithWhatWasAcknowledged) {
  const TempDir dir;
  FakeClock clock;
  RecordingVfs vfs;
  store::Options options = small_store(dir.path());
  options.vfs = vfs.name();
  std::size_t acknowledged = 0;
  {
    auto store = store::open_sqlite_store(options, clock);
    ASSERT_TRUE(store) << store.error().message();
    vfs.note_directory_sync();
    const std::vector<store::Append> group{frame(client(1), 1, {"first"})};
    ASSERT_TRUE((*store)->commit(group));
    acknowledged = vfs.position();
    ASSERT_TRUE((*store)->close());
  }
  const std::vector<FileOp> record = vfs.record();
  std::mt19937_64 random(test_seed());
  std::unordered_set<std::uint64_t> seen;
  PowerCut disk;
  for (std::size_t cut = 0; cut <= record.size(); ++cut) {
    if (cut > 0) disk.apply(record[cut - 1]);
    for (int i = 0; i < 3; ++i) {
      const PowerCut::Image image = disk.image(random);
      if (!seen.insert(hash_of(image)).second) continue;
      SCOPED_TRACE("cut at operation " + std::to_string(cut));
      const TempDir folder;
      write_image(image, folder.path());
      auto store = store::open_sqlite_store(small_store(folder.path()), clock);
      ASSERT_TRUE(store) << store.error().message();
      EXPECT_EQ((*store)->info()->loss, std::nullopt);
      EXPECT_EQ((*store)->info()->quarantined_stores, 0u);
      EXPECT_TRUE((*store)->check_ledger()->balanced);
      const std::uint64_t known = (*store)->high_water(client(1)->key)->value_or(0);
      EXPECT_GE(known, cut >= acknowledged ? 1u : 0u);
      const std::vector<store::Append> group{frame(client(1), known + 1, {"next"})};
      const auto answers = (*store)->commit(group);
      ASSERT_TRUE(answers) << answers.error().message();
      EXPECT_EQ(answers->front().kind, store::Answer::Kind::kStored);
    }
  }
  EXPECT_GT(seen.size(), 20u);
}

TEST_F(Upgrade, AStoreOfFormatOneKeepsEveryRowAndEveryNumber) {
  expect_whole(dir_.path());
}

TEST_F(Upgrade, APowerCutAtAnyStepOfAnUpgradeEndsInTheSameStore) {
  PowerCut before;
  std::ifstream in(dir_ / "events.db", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  before.apply({FileOp::Kind::kCreate, "events.db", 0, {}});
  before.apply({FileOp::Kind::kWrite, "events.db", 0, bytes});
  before.apply({FileOp::Kind::kSync, "events.db", 0, {}});
  before.apply({FileOp::Kind::kDirectorySync, {}, 0, {}});
  RecordingVfs vfs;
  {
    auto store = open(dir_.path(), vfs.name());
    ASSERT_TRUE(store) << store.error().message();
    vfs.note_directory_sync();
    ASSERT_TRUE((*store)->close());
  }
  const std::vector<FileOp> record = vfs.record();
  ASSERT_GT(record.size(), 10u);
  std::mt19937_64 random(test_seed());
  std::unordered_set<std::uint64_t> seen;
  for (std::size_t cut = 0; cut <= record.size(); ++cut) {
    if (cut > 0) before.apply(record[cut - 1]);
    for (int i = 0; i < 3; ++i) {
      const PowerCut::Image image = before.image(random);
      if (!seen.insert(hash_of(image)).second) continue;
      SCOPED_TRACE("cut at operation " + std::to_string(cut));
      const TempDir folder;
      write_image(image, folder.path());
      ASSERT_NO_FATAL_FAILURE(expect_whole(folder.path()));
    }
  }
  EXPECT_GT(seen.size(), 10u);
}

TEST_F(Upgrade, ANewerStoreIsLeftUntouchedAndTheWayOutIsNamed) {
  {
    auto store = open(dir_.path());
    ASSERT_TRUE(store);
    ASSERT_TRUE((*store)->close());
  }
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version=3", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  std::ifstream in(dir_ / "events.db", std::ios::binary);
  const std::string before{std::istreambuf_iterator<char>(in), {}};
  const auto refused = open(dir_.path());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kFailedPrecondition);
  for (const char* words : {"format 3", "this one knows 2", "telemetryd-salvage --output"}) {
    EXPECT_NE(refused.error().message().find(words), std::string::npos) << words;
  }
  std::ifstream again(dir_ / "events.db", std::ios::binary);
  const std::string after{std::istreambuf_iterator<char>(again), {}};
  EXPECT_EQ(after, before);
}

}  // namespace
}  // namespace telemetryd::test
