// What rows say before the tables `ledger` and `clients` say it too: nothing of it is lost, and
// nothing is said twice.

#include <cstdint>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "store/unbooked.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using store::Answer;

class Booking : public StoreTest {
 protected:
  // Frames `from` to `to` of client 1, one commit and one event each. The first brings the app.
  void store_frames(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t n = from; n <= to; ++n) {
      const auto answers = commit({frame(client(1), n, {"event " + std::to_string(n)})});
      ASSERT_EQ(answers.at(0).kind, Answer::Kind::kStored);
    }
  }

  void start_afresh() {
    store_.reset();
    for (const auto& file : std::filesystem::directory_iterator(dir_.path())) {
      std::filesystem::remove(file.path());
    }
    open(small_store(dir_.path()));
  }

  // Looks into the file of a store that was left as a kill leaves it.
  std::int64_t ask(const std::string& sql) {
    store_.reset();
    sqlite3* db = nullptr;
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    std::int64_t value = -1;
    if (sqlite3_step(statement) == SQLITE_ROW) value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
  }

  // Changes the file of a store that was left as a kill leaves it, and opens it again.
  void change_and_open(const std::string& sql) {
    store_.reset();
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
    open(small_store(dir_.path()));
  }

  std::uint64_t high_water(std::uint8_t number) {
    return store_->high_water(client(number)->key).value().value_or(0);
  }
};

TEST_F(Booking, WhatOnlyRowsSayOutlivesAKill) {
  store_frames(1, 5);
  EXPECT_EQ(ask("SELECT value FROM ledger WHERE account='queued'"), 1);
  open(small_store(dir_.path()));
  EXPECT_EQ(high_water(1), 5u);
  EXPECT_EQ(account("accepted"), 5);
  EXPECT_EQ(account("queued"), 5);
  EXPECT_EQ(commit({frame(client(1), 5, {"again"})}).at(0).kind, Answer::Kind::kDuplicate);
  expect_balanced();
  crash_and_reopen();
  EXPECT_EQ(account("accepted"), 5);
}

TEST_F(Booking, ACheckOfTheLedgerWritesNothing) {
  store_frames(1, 3);
  expect_balanced();
  EXPECT_EQ(ask("SELECT value FROM ledger WHERE account='queued'"), 1);
  open(small_store(dir_.path()));
}

TEST_F(Booking, TheTablesFollowAfterSoManyRows) {
  const std::uint64_t rows = store::Unbooked::kRowsMax + 2;
  store_frames(1, rows);
  EXPECT_EQ(ask("SELECT value FROM ledger WHERE account='queued'"),
            static_cast<std::int64_t>(rows));
  open(small_store(dir_.path()));
  EXPECT_EQ(account("queued"), static_cast<std::int64_t>(rows));
}

TEST_F(Booking, TheTablesAreCompleteAfterAClose) {
  store_frames(1, 3);
  ASSERT_TRUE(store_->close());
  EXPECT_EQ(ask("SELECT value FROM ledger WHERE account='queued'"), 3);
  EXPECT_EQ(ask("SELECT high_water FROM clients"), 3);
  open(small_store(dir_.path()));
}

TEST_F(Booking, WhateverTakesARowBooksItFirst) {
  store_frames(1, 4);
  settle(lease(lease_of({"shop"}, 2)).id);
  crash_and_reopen();
  EXPECT_EQ(high_water(1), 4u);
  EXPECT_EQ(account("accepted"), 4);
  EXPECT_EQ(account("delivered"), 2);
  EXPECT_EQ(account("queued"), 2);
  store_frames(5, 6);
  ASSERT_TRUE(store_->erase(1000, "shop"));
  crash_and_reopen();
  EXPECT_EQ(high_water(1), 6u);
  EXPECT_EQ(account("erased", "withdrawn"), 4);
}

TEST_F(Booking, AForgottenClientIsNotBroughtBackByItsRows) {
  store_frames(1, 3);
  ASSERT_TRUE(store_->forget(client(1)->key));
  EXPECT_EQ(high_water(1), 0u);
  crash_and_reopen();
  EXPECT_EQ(high_water(1), 0u);
  EXPECT_EQ(account("queued"), 3);
}

TEST_F(Booking, ARefusalBetweenRowsKeepsItsPlaceInTheNumbers) {
  store_frames(1, 2);
  commit({frame(client(1), 3, {"a"}), refused_frame(client(1), 4, false)});
  crash_and_reopen();
  EXPECT_EQ(high_water(1), 4u);
  EXPECT_EQ(account("refused", frame::code_name(frame::Code::kInvalidEvent)), 1);
  store_frames(5, 6);
  crash_and_reopen();
  EXPECT_EQ(high_water(1), 6u);
  EXPECT_EQ(account("accepted"), 5);
}

TEST_F(Booking, AReportBeforeTheTablesKnowTheClientKeepsItsHighWater) {
  store_frames(1, 1);
  commit({frame(client(2), 1, {"a"}), frame(client(2), 2, {"b"})});
  ASSERT_TRUE(store_->report(*client(2), {{"ring_full", 3}}));
  crash_and_reopen();
  EXPECT_EQ(high_water(2), 2u);
  EXPECT_EQ(account("lost_by_client", "ring_full"), 3);
}

TEST_F(Booking, ADamagedColumnCostsItsRowAndNoStart) {
  for (const char* damage : {"instance=x'00'",
                             "instance=NULL",
                             "instance=zeroblob(16)",
                             "last_frame=last_frame+1000",
                             "uid=uid+1",
                             "app=app+7",
                             "count=count+5",
                             "crc=crc+4294967296"}) {
    SCOPED_TRACE(damage);
    start_afresh();
    store_frames(1, 3);
    change_and_open("UPDATE events SET " + std::string(damage) +
                    " WHERE seq=(SELECT max(seq) FROM events)");
    ASSERT_TRUE(store_);
    EXPECT_EQ(account("accepted"), 3);
    EXPECT_EQ(account("lost", "damage"), 1);
    EXPECT_EQ(account("queued"), 2);
    EXPECT_EQ(high_water(1), 2u) << "what the damaged row says of its client was believed";
    EXPECT_EQ(store_->info()->loss, std::nullopt);
    expect_balanced();
    // The sender got its answer before the damage, and goes on behind it.
    auto ahead = std::make_shared<store::ClientInfo>(*client(1));
    ahead->first_frame = 4;
    EXPECT_EQ(commit({frame(ahead, 4, {"next"})}).at(0).kind, Answer::Kind::kStored);
    crash_and_reopen();
    EXPECT_EQ(account("accepted"), 4);
    EXPECT_EQ(account("lost", "damage"), 1);
    EXPECT_EQ(high_water(1), 4u);
    expect_balanced();
  }
}

TEST_F(Booking, ARowWithADamagedColumnIsNeverLent) {
  store_frames(1, 3);
  ASSERT_TRUE(store_->close());
  change_and_open("UPDATE events SET count=count+1 WHERE seq=(SELECT max(seq) FROM events)");
  EXPECT_FALSE(store_->check_ledger()->balanced);
  EXPECT_EQ(lease(lease_of({"shop"})).events, 2u);
  EXPECT_EQ(account("lost", "damage"), 1);
  EXPECT_EQ(account("queued"), 2);
}

TEST_F(Booking, AStoreOfFormatOneGoesOn) {
  store_frames(1, 3);
  ASSERT_TRUE(store_->close());
  store_.reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
  // As format 1 was: the tables say everything, and the rows have two columns less.
  EXPECT_EQ(sqlite3_exec(db,
                         "ALTER TABLE events DROP COLUMN instance;"
                         "ALTER TABLE events DROP COLUMN last_frame;"
                         "DELETE FROM meta WHERE key='booked_up_to';"
                         "UPDATE events SET crc = crc & 4294967295;"
                         "PRAGMA user_version=1",
                         nullptr,
                         nullptr,
                         nullptr),
            SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
  open(small_store(dir_.path()));
  EXPECT_EQ(account("queued"), 3);
  store_frames(4, 5);
  crash_and_reopen();
  EXPECT_EQ(high_water(1), 5u);
  EXPECT_EQ(account("accepted"), 5);
  EXPECT_EQ(lease(lease_of({"shop"})).events, 5u);
}

}  // namespace
}  // namespace telemetryd::test
