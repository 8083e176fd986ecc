// Stores that cannot be read: set aside whole, counted, and another one serves.

#include "store/quarantine.h"

#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "base/io.h"
#include "store/witness.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPage = 8192;

class Quarantine : public StoreTest {
 protected:
  fs::path database() const { return dir_ / "events.db"; }

  fs::path wal() const { return dir_ / "events.db-wal"; }

  fs::path witness() const { return dir_ / "witness"; }

  static std::string content(const fs::path& file) {
    return read_file(file, 64u << 20).value_or("");
  }

  static void overwrite(const fs::path& file, std::uint64_t offset, const std::string& bytes) {
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(offset));
    out << bytes;
    ASSERT_TRUE(out.flush().good());
  }

  // Five events accepted, two of them delivered, everything in the database file.
  void fill_and_close() {
    commit({frame(app_, 1, {"a", "b"})});
    settle(lease(lease_of({"shop"})).id);
    commit({frame(app_, 2, {"c", "d", "e"})});
    epoch_ = store_->info()->epoch;
    ASSERT_TRUE(store_->close());
    store_.reset();
  }

  void empty_wal() { fs::resize_file(wal(), 0); }

  // A store that was closed has lost its header; the next one serves.
  void spoil_and_open() { spoil_and_open(small_store(dir_.path())); }

  void spoil_and_open(const store::Options& options) {
    store_.reset();
    empty_wal();
    overwrite(database(), 0, std::string(100, '\0'));
    clock_.advance(std::chrono::seconds(1));
    open(options);
  }

  store::StateFiles files() const { return store::StateFiles::in(dir_.path()); }

  std::vector<store::QuarantinedStore> aside() const { return store::quarantined(dir_.path()); }

  // A new store serves, the loss has its size, and no number can come twice.
  void expect_replaced() {
    ASSERT_EQ(aside().size(), 1u);
    ASSERT_TRUE(store_->info()->loss.has_value());
    EXPECT_GT(store_->info()->epoch, epoch_);
    EXPECT_EQ(account("accepted"), 5);
    EXPECT_EQ(account("delivered", "earlier_store"), 2);
    EXPECT_EQ(account("lost", "damage"), 3);
    EXPECT_EQ(commit({frame(client(2), 1, {"new"})}).at(0).kind, store::Answer::Kind::kStored);
    EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), std::vector<std::string>{"new"});
    expect_balanced();
  }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::uint64_t epoch_ = 0;
};

TEST_F(Quarantine, AStoreWithoutItsHeaderIsSetAsideWholeAndItsEventsAreCountedLost) {
  fill_and_close();
  empty_wal();
  overwrite(database(), 0, std::string(100, '\0'));
  const std::string before = content(database());
  const std::string knew = content(witness());
  open(small_store(dir_.path()));
  ASSERT_NO_FATAL_FAILURE(expect_replaced());
  EXPECT_EQ(content(aside()[0].folder / "events.db"), before);
  EXPECT_EQ(content(aside()[0].folder / "witness"), knew);
  EXPECT_NE(content(aside()[0].folder / "reason").find("lost its header"), std::string::npos);
  const auto info = store_->info();
  EXPECT_EQ(info->quarantined_stores, 1u);
  EXPECT_EQ(info->quarantined_newest, aside()[0].folder);
  EXPECT_GE(info->bytes, info->quarantined_bytes);
  EXPECT_GE(info->quarantined_bytes, before.size());
}

// What the header says of itself may be anything. The store serves, with or without the events that
// were there; or it was taken for a stranger's or a newer version's and is left alone, in words.
TEST_F(Quarantine, NoByteOfTheHeaderKeepsEveryStartFromServing) {
  fill_and_close();
  empty_wal();
  const std::string whole = content(database());
  const std::string told = content(witness());
  for (std::uint64_t at = 0; at < 100; ++at) {
    for (const char value : {'\x00', '\x2f', '\xff'}) {
      SCOPED_TRACE("byte " + std::to_string(at) + " = " + std::to_string(value & 0xff));
      const TempDir folder;
      for (const auto& [name, bytes] : {std::pair("events.db", whole), {"witness", told}}) {
        std::ofstream(folder / name, std::ios::binary) << bytes;
      }
      overwrite(folder / "events.db", at, std::string(1, value));
      auto opened = store::open_sqlite_store(small_store(folder.path()), clock_);
      if (!opened) {
        EXPECT_EQ(opened.error().code(), ErrorCode::kFailedPrecondition)
            << opened.error().message();
        continue;
      }
      const auto answers = (*opened)->commit(std::vector{frame(client(2), 1, {"new"})});
      EXPECT_TRUE(answers) << answers.error().message();
      EXPECT_EQ(store::machine_total((*opened)->ledger().value()).get("accepted"), 6);
    }
  }
}

TEST_F(Quarantine, AHeaderThatTheLogStillHasCostsNothing) {
  commit({frame(app_, 1, {"a", "b"})});
  // The first page is in the log when the schema changes, as an erasure's scrub or an upgrade does.
  store_.reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(database().c_str(), &db), SQLITE_OK);
  int persist = 1;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
  sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version=2", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  overwrite(database(), 0, std::string(100, 'x'));
  open(small_store(dir_.path()));
  EXPECT_EQ(store_->info()->loss, std::nullopt);
  EXPECT_TRUE(aside().empty());
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "b"}));
}

TEST_F(Quarantine, AnEmptyDatabaseIsSetAsideWithItsLog) {
  fill_and_close();
  fs::resize_file(database(), 0);
  const std::string log = content(wal());
  open(small_store(dir_.path()));
  ASSERT_NO_FATAL_FAILURE(expect_replaced());
  EXPECT_EQ(content(aside()[0].folder / "events.db-wal"), log);
}

TEST_F(Quarantine, AMissingDatabaseLeavesItsLogForSalvage) {
  fill_and_close();
  fs::remove(database());
  const std::string log = content(wal());
  open(small_store(dir_.path()));
  ASSERT_NO_FATAL_FAILURE(expect_replaced());
  EXPECT_EQ(content(aside()[0].folder / "events.db-wal"), log);
}

TEST_F(Quarantine, ADatabaseCutShortIsSetAside) {
  fill_and_close();
  empty_wal();
  fs::resize_file(database(), 3 * kPage);
  open(small_store(dir_.path()));
  ASSERT_NO_FATAL_FAILURE(expect_replaced());
}

TEST_F(Quarantine, AStoreWithoutOneOfItsTablesIsSetAside) {
  fill_and_close();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(database().c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "DROP TABLE clients", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  open(small_store(dir_.path()));
  ASSERT_NO_FATAL_FAILURE(expect_replaced());
}

TEST_F(Quarantine, AWrongPageOfTheOldestEventsIsMetAtTheStartWhichServesAllTheSame) {
  for (std::uint64_t i = 1; i <= 40; ++i) commit({frame(app_, i, {std::string(3000, 'x')})});
  ASSERT_TRUE(store_->close());
  store_.reset();
  sqlite3* db = nullptr;
  sqlite3_stmt* leaf = nullptr;
  ASSERT_EQ(sqlite3_open(database().c_str(), &db), SQLITE_OK);
  const char* const first = "SELECT pageno FROM dbstat WHERE name='events' AND path='/000/'";
  ASSERT_EQ(sqlite3_prepare_v2(db, first, -1, &leaf, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
  ASSERT_EQ(sqlite3_step(leaf), SQLITE_ROW);
  const auto page = static_cast<std::uint64_t>(sqlite3_column_int64(leaf, 0));
  sqlite3_finalize(leaf);
  sqlite3_close(db);
  overwrite(database(), (page - 1) * kPage, std::string(64, '\xEE'));
  open(small_store(dir_.path()));
  EXPECT_EQ(aside().size(), 1u);
  EXPECT_EQ(account("lost", "damage"), 40);
}

TEST_F(Quarantine, DatabaseAndLogGoneAreCountedToo) {
  fill_and_close();
  fs::remove(database());
  fs::remove(wal());
  open(small_store(dir_.path()));
  EXPECT_TRUE(aside().empty());
  EXPECT_EQ(account("lost", "damage"), 3);
  EXPECT_EQ(account("delivered", "earlier_store"), 2);
}

// What a crash leaves behind after each step of the move.
TEST_F(Quarantine, AMoveThatACrashInterruptsEndsTheSameFromEveryStep) {
  fill_and_close();
  empty_wal();
  overwrite(database(), 0, std::string(100, '\0'));
  const TempDir original;
  fs::copy(dir_.path(),
           original.path(),
           fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  for (int step = 0; step <= 6; ++step) {
    SCOPED_TRACE(step);
    store_.reset();
    fs::remove_all(dir_.path());
    fs::copy(original.path(), dir_.path(), fs::copy_options::recursive);
    const fs::path moving = dir_ / "quarantine/moving";
    if (step >= 1) fs::create_directories(moving);
    // The note's first half, which replace_file() names like this.
    if (step == 2) std::ofstream(moving / "reason.new") << "half";
    if (step >= 3) {
      ASSERT_TRUE(store::condemn(files(), "pages are wrong"));
    }
    if (step >= 4) fs::copy_file(witness(), moving / "witness");
    if (step >= 5) fs::rename(wal(), moving / "events.db-wal");
    if (step >= 6) fs::rename(database(), moving / "events.db");
    open(small_store(dir_.path()));
    ASSERT_NO_FATAL_FAILURE(expect_replaced());
    const fs::path folder = aside()[0].folder;
    EXPECT_EQ(content(folder / "events.db"), content(original / "events.db"));
    EXPECT_TRUE(fs::exists(folder / "events.db-wal"));
    EXPECT_FALSE(fs::exists(moving));
    EXPECT_EQ(content(folder / "witness"), content(original / "witness"));
  }
}

TEST_F(Quarantine, ALossIsBookedOnceHoweverOftenTheStartIsCutOff) {
  fill_and_close();
  empty_wal();
  overwrite(database(), 0, std::string(100, '\0'));
  const std::string before = content(witness());
  open(small_store(dir_.path()));
  for (int again = 0; again < 3; ++again) {
    // As if the power had gone before the new store's witness was on disk.
    store_.reset();
    std::ofstream(witness(), std::ios::binary | std::ios::trunc) << before;
    open(small_store(dir_.path()));
    EXPECT_EQ(account("accepted"), 5);
    EXPECT_EQ(account("lost", "damage"), 3);
  }
  EXPECT_EQ(aside().size(), 1u);
  expect_balanced();
}

TEST_F(Quarantine, ACondemnedStoreIsMovedAtTheNextStart) {
  fill_and_close();
  ASSERT_TRUE(store::condemn(files(), "a page was wrong"));
  open(small_store(dir_.path()));
  ASSERT_NO_FATAL_FAILURE(expect_replaced());
}

TEST_F(Quarantine, WhatUsersRefusedHoldsInTheNextStore) {
  using store::Consent;
  ASSERT_TRUE(store_->set_consent({1000, "shop", Consent::kDisabled, 5}));
  ASSERT_TRUE(store_->set_consent({1001, "", Consent::kLocal, 6}));
  ASSERT_TRUE(store_->set_consent({1002, "", Consent::kEnabled, 7}));
  // In the log alone, beside a database whose events are damaged.
  store_.reset();
  const std::string log = content(wal());
  ASSERT_TRUE(store::condemn(files(), "a page was wrong"));
  open(small_store(dir_.path()));
  ASSERT_EQ(aside().size(), 1u);
  const auto records = store_->consents().value();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].state, Consent::kDisabled);
  EXPECT_EQ(records[0].app, "shop");
  EXPECT_EQ(records[0].decided_unix_ms, 5);
  EXPECT_EQ(records[1].state, Consent::kLocal);
  EXPECT_TRUE(store_->info()->troubles.empty());
  EXPECT_EQ(content(aside()[0].folder / "events.db-wal"), log) << "the files stay as they are";
  // Once: a later change of mind holds.
  ASSERT_TRUE(store_->set_consent({1000, "shop", Consent::kEnabled, 8}));
  reopen();
  EXPECT_EQ(store_->consents()->front().state, Consent::kEnabled);
}

TEST_F(Quarantine, RefusalsThatCannotBeReadAreSaidUntilTheFolderIsGone) {
  ASSERT_TRUE(store_->set_consent({1000, "shop", store::Consent::kDisabled, 5}));
  fill_and_close();
  spoil_and_open();
  EXPECT_TRUE(store_->consents()->empty());
  reopen();
  ASSERT_EQ(store_->info()->troubles.size(), 1u);
  EXPECT_EQ(store_->info()->troubles[0].word, "consent_lost");
  EXPECT_FALSE(store_->info()->troubles[0].refuses_events);
  fs::remove_all(aside()[0].folder);
  reopen();
  EXPECT_TRUE(store_->info()->troubles.empty());
}

TEST_F(Quarantine, OnlyAStrangerIsLeftWhereItIs) {
  fill_and_close();
  fs::remove(wal());
  std::ofstream(database(), std::ios::binary | std::ios::trunc) << std::string(5000, 'x');
  open(small_store(dir_.path()));
  EXPECT_EQ(aside().size(), 1u) << "beside its witness it is what is left of ours";
  store_.reset();
  for (const fs::path& file : {database(), wal(), witness()}) fs::remove(file);
  std::ofstream(database(), std::ios::binary | std::ios::trunc) << std::string(5000, 'x');
  const auto refused = store::open_sqlite_store(small_store(dir_.path()), clock_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(content(database()), std::string(5000, 'x'));
}

TEST_F(Quarantine, ALargeStoreOutlivesAllThatHeldLess) {
  fill_and_close();
  spoil_and_open();
  ASSERT_EQ(aside().size(), 1u);
  const fs::path original = aside()[0].folder;
  // A disk that spoils every new store, some of which held something, at a clock that stands at the
  // end of a boot in 1970.
  clock_.jump(std::chrono::milliseconds(1000 - clock_.unix_ms()));
  for (std::uint8_t i = 0; i < store::kQuarantinedMax + 4; ++i) {
    if (i % 2 == 0) commit({frame(client(10), i + 1u, {"x"})});
    ASSERT_TRUE(store_->close());
    spoil_and_open();
    ASSERT_TRUE(fs::exists(original / "events.db")) << int{i};
    EXPECT_LE(aside().size(), store::kQuarantinedMax);
    EXPECT_EQ(aside().front().folder, original) << "by epoch, not by clock";
  }
  store_.reset();
  store::bound_quarantine(dir_.path(), 0, store::Bound::kCountAndBytes);
  ASSERT_EQ(aside().size(), 1u);
  EXPECT_EQ(aside()[0].folder, original);
}

TEST_F(Quarantine, AStartThatAddsAStoreRemovesNoneForItsBytes) {
  store::Options options = small_store(dir_.path());
  commit({frame(app_, 1, {std::string(60'000, 'x')})});
  ASSERT_TRUE(store_->close());
  options.bytes_max = 600'000;
  spoil_and_open(options);
  commit({frame(client(2), 1, {"a", "b"})});
  ASSERT_TRUE(store_->close());
  spoil_and_open(options);
  EXPECT_EQ(aside().size(), 2u);
  EXPECT_GT(store::quarantined_bytes(dir_.path()), options.bytes_max / 4 * 3);
  store_.reset();
  open(options);
  ASSERT_EQ(aside().size(), 1u);
  EXPECT_EQ(aside()[0].held_events, 2u);
}

TEST_F(Quarantine, OfThoseThatHeldNothingTheNewestIsEnough) {
  fill_and_close();
  spoil_and_open();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(store_->close());
    spoil_and_open();
  }
  ASSERT_EQ(aside().size(), 4u);
  const fs::path newest = aside().back().folder;
  reopen();
  ASSERT_EQ(aside().size(), 2u);
  EXPECT_EQ(aside()[0].held_events, 3u);
  EXPECT_EQ(aside()[1].folder, newest);
}

TEST_F(Quarantine, AFolderWithAnotherNameIsNotOurs) {
  store_.reset();
  const std::vector<std::string> names = {
      "copy", "20260101T000000Z-00000000.bak", "20260101T000000Z-0000000g", "moving"};
  for (const std::string& name : names) {
    fs::create_directories(dir_ / "quarantine" / name);
    std::ofstream(dir_ / "quarantine" / name / "events.db") << std::string(5000, 'x');
  }
  store::bound_quarantine(dir_.path(), 0, store::Bound::kCountAndBytes);
  EXPECT_TRUE(aside().empty());
  for (const std::string& name : names) {
    EXPECT_TRUE(fs::exists(dir_ / "quarantine" / name / "events.db")) << name;
  }
}

// A power cut takes the folder's final name back after the next store has begun.
TEST_F(Quarantine, ANewStoreIsNeverMovedOverTheOldOne) {
  fill_and_close();
  spoil_and_open();
  ASSERT_EQ(aside().size(), 1u);
  const std::string old = content(aside()[0].folder / "events.db");
  const std::string knew = content(aside()[0].folder / "witness");
  commit({frame(client(2), 1, {"new"})});
  store_.reset();
  fs::rename(aside()[0].folder, dir_ / "quarantine/moving");
  open(small_store(dir_.path()));
  ASSERT_EQ(aside().size(), 1u);
  EXPECT_EQ(content(aside()[0].folder / "events.db"), old);
  EXPECT_EQ(content(aside()[0].folder / "witness"), knew);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), std::vector<std::string>{"new"});
}

TEST_F(Quarantine, WhatIsSetAsideCountsAgainstTheQuota) {
  store::Options options = small_store(dir_.path());
  const std::uint64_t aside_bytes = options.bytes_max / 2;
  store_.reset();
  fs::create_directories(dir_ / "quarantine/20260101T000000Z-00000000");
  std::ofstream(dir_ / "quarantine/20260101T000000Z-00000000/events.db", std::ios::binary)
      << std::string(aside_bytes, 'x');
  options.when_full = store::WhenFull::kRefuse;
  open(options);
  std::uint64_t number = 0;
  while (commit({frame(app_, number + 1, {std::string(60'000, 'x')})}).at(0).kind ==
         store::Answer::Kind::kStored) {
    ++number;
    ASSERT_LT(number, 1000u);
  }
  EXPECT_GT(number, 10u);
  EXPECT_LE(store_->info()->bytes, options.bytes_max);
  EXPECT_EQ(store_->info()->bytes_max, options.bytes_max);
}

TEST_F(Quarantine, SomethingElseAtItsFolderIsNotFollowed) {
  fill_and_close();
  empty_wal();
  overwrite(database(), 0, std::string(100, '\0'));
  const TempDir elsewhere;
  ASSERT_EQ(::symlink(elsewhere.path().c_str(), (dir_ / "quarantine").c_str()), 0);
  const auto refused = store::open_sqlite_store(small_store(dir_.path()), clock_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kFailedPrecondition);
  EXPECT_TRUE(fs::is_empty(elsewhere.path()));
  EXPECT_TRUE(fs::exists(database()));
}

}  // namespace
}  // namespace telemetryd::test
