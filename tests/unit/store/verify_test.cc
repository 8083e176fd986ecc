// What goes wrong while the store is in use: pages, rows, and the folder under its feet.

#include <fstream>
#include <sys/stat.h>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "store/quarantine.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPage = 8192;

class Verify : public StoreTest {
 protected:
  // Rows on many pages, all in the database file, and the store closed.
  void fill_and_close() {
    for (std::uint64_t i = 1; i <= 40; ++i) commit({frame(app_, i, {std::string(3000, 'x')})});
    ASSERT_TRUE(store_->close());
    store_.reset();
  }

  std::int64_t ask(const std::string& sql) {
    sqlite3* db = nullptr;
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr), SQLITE_OK) << sql;
    const int step = sqlite3_step(statement);
    EXPECT_TRUE(step == SQLITE_ROW || step == SQLITE_DONE) << sql;
    const std::int64_t value = step == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
  }

  // Breaks a leaf page in the middle of the events: a start reads the first and the last.
  void break_a_page() {
    overwrite_page(
        ask("SELECT max(pageno) FROM dbstat WHERE name='events' AND pagetype='leaf' AND path LIKE "
            "'/005%'"));
  }

  void overwrite_page(std::int64_t page) {
    ASSERT_GT(page, 1);
    std::fstream out(dir_ / "events.db", std::ios::binary | std::ios::in | std::ios::out);
    out.seekp((page - 1) * static_cast<std::int64_t>(kPage));
    out << std::string(64, '\xEE');
    ASSERT_TRUE(out.flush().good());
  }

  // Idle moments as they come behind other work; the error that ends them.
  Result<void> idle_for(int moments) {
    for (int i = 0; i < moments; ++i) {
      clock_.advance(std::chrono::milliseconds(300));
      if (const auto rested = store_->idle(); !rested) return fail(rested.error());
    }
    return {};
  }

  std::vector<store::QuarantinedStore> aside() const { return store::quarantined(dir_.path()); }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
};

TEST_F(Verify, ABrokenPageIsFoundWhenIdleAndTheNextStartSetsTheStoreAside) {
  fill_and_close();
  break_a_page();
  open(small_store(dir_.path()));
  EXPECT_EQ(store_->info()->loss, std::nullopt) << "found at the start already";
  const auto rested = idle_for(300);
  ASSERT_FALSE(rested);
  EXPECT_EQ(rested.error().code(), ErrorCode::kUnknownOutcome);
  const std::vector<store::Append> group{frame(app_, 41, {"late"})};
  EXPECT_FALSE(store_->commit(group)) << "acknowledged into a damaged store";
  store_.reset();
  open(small_store(dir_.path()));
  EXPECT_EQ(aside().size(), 1u);
  EXPECT_EQ(account("lost", "damage"), 40);
  EXPECT_EQ(commit({frame(client(2), 1, {"new"})}).at(0).kind, store::Answer::Kind::kStored);
}

TEST_F(Verify, ABrokenPageOfASmallTableIsFoundToo) {
  fill_and_close();
  overwrite_page(ask("SELECT max(pageno) FROM dbstat WHERE name='consent'"));
  open(small_store(dir_.path()));
  ASSERT_FALSE(idle_for(300));
  store_.reset();
  open(small_store(dir_.path()));
  EXPECT_EQ(aside().size(), 1u);
}

TEST_F(Verify, ABrokenPageThatALeaseMeetsEndsTheRunToo) {
  fill_and_close();
  break_a_page();
  open(small_store(dir_.path()));
  EXPECT_FALSE(store_->lease(lease_of({"shop"})));
  const std::vector<store::Append> group{frame(app_, 41, {"late"})};
  const auto answers = store_->commit(group);
  ASSERT_FALSE(answers);
  EXPECT_EQ(answers.error().code(), ErrorCode::kUnknownOutcome);
  store_.reset();
  open(small_store(dir_.path()));
  EXPECT_EQ(aside().size(), 1u);
}

TEST_F(Verify, ADamagedRowIsFoundBeforeAnybodyWantsIt) {
  fill_and_close();
  ask("UPDATE events SET blob = zeroblob(10) WHERE seq = (SELECT max(seq) FROM events)");
  open(small_store(dir_.path()));
  ASSERT_TRUE(idle_for(300));
  EXPECT_EQ(account("lost", "damage"), 1);
  EXPECT_EQ(account("queued"), 39);
}

TEST_F(Verify, AHealthyStoreIsReadOnceAndLeftAlone) {
  fill_and_close();
  open(small_store(dir_.path()));
  ASSERT_TRUE(idle_for(300));
  EXPECT_EQ(account("queued"), 40);
  EXPECT_TRUE(aside().empty());
}

TEST_F(Verify, ARowThatNamesAnotherAppCostsItsOwnAppOnly) {
  commit({frame(client(2, "mail"), 1, {"m"})});
  fill_and_close();
  for (const char* app : {"2", "1", "77"}) {
    ask("UPDATE events SET app = " + std::string(app) +
        " WHERE seq = (SELECT max(seq) FROM events)");
    open(small_store(dir_.path()));
    ASSERT_TRUE(idle_for(300));
    expect_balanced();
    ASSERT_TRUE(store_->close());
    store_.reset();
  }
  open(small_store(dir_.path()));
  EXPECT_EQ(account("accepted"), 41);
  EXPECT_EQ(store_->queue("mail")->events, 1u);
}

TEST_F(Verify, ALedgerThatDoesNotBalanceFollowsTheRows) {
  fill_and_close();
  for (const char* damage : {"UPDATE ledger SET value = value + 7 WHERE account = 'queued'",
                             "UPDATE ledger SET value = value - 3 WHERE account = 'accepted'",
                             "UPDATE ledger SET account = 'qufued' WHERE account = 'queued'",
                             "DELETE FROM ledger WHERE account = 'accepted'",
                             "UPDATE ledger SET app = 77 WHERE account = 'queued'",
                             "UPDATE ledger SET value = 1 << 60 WHERE account = 'queued'",
                             "UPDATE ledger SET value = -(1 << 60) WHERE account = 'accepted'",
                             "UPDATE ledger SET app = 77 WHERE account = 'queued_bytes'"}) {
    SCOPED_TRACE(damage);
    ask(damage);
    open(small_store(dir_.path()));
    EXPECT_EQ(account("queued"), 40);
    EXPECT_EQ(store_->info()->loss, std::nullopt) << "compared with books that are wrong";
    EXPECT_TRUE(aside().empty());
    expect_balanced();
    ASSERT_TRUE(store_->close());
    store_.reset();
  }
}

TEST_F(Verify, AFolderThatIsRemovedIsNoticedBeforeTheNextAcknowledgement) {
  commit({frame(app_, 1, {"a", "b"})});
  settle(lease(lease_of({"shop"})).id);
  commit({frame(app_, 2, {"c", "d", "e"})});
  const std::uint64_t epoch = store_->info()->epoch;
  fs::remove_all(dir_.path());
  const std::vector<store::Append> group{frame(app_, 3, {"f"})};
  const auto answers = store_->commit(group);
  ASSERT_FALSE(answers);
  EXPECT_EQ(answers.error().code(), ErrorCode::kUnknownOutcome);
  store_.reset();
  open(small_store(dir_.path()));
  EXPECT_GT(store_->info()->epoch, epoch);
  ASSERT_TRUE(store_->info()->loss.has_value());
  EXPECT_EQ(account("accepted"), 5);
  EXPECT_EQ(account("lost", "damage"), 3);
  EXPECT_EQ(account("delivered", "earlier_store"), 2);
}

TEST_F(Verify, AFolderThatIsMovedAwayIsNoticedWhenIdle) {
  commit({frame(app_, 1, {"a"})});
  const TempDir elsewhere;
  fs::rename(dir_ / "events.db", elsewhere / "events.db");
  const auto rested = store_->idle();
  ASSERT_FALSE(rested);
  EXPECT_EQ(rested.error().code(), ErrorCode::kUnknownOutcome);
  store_.reset();
}

}  // namespace
}  // namespace telemetryd::test
